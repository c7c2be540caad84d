"""Requests to the input of a service: intents and slots, map queries, function calls, dialogue programs, search words."""

from symbol_llm.tasks.api import calls, dialogues, intents, maps, searches

TASKS = (*intents.TASKS, *maps.TASKS, *calls.TASKS, *dialogues.TASKS, *searches.TASKS)
