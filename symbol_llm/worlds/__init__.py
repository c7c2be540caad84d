"""What generated problems are about: stories, scenes, graphs, tables, functions. Each is told in words and in symbols from one structure.

A world draws, tells and answers; it knows no task, no family and judges nothing.
"""
