"""What everything stands on: records, parameters, errors, files, outputs, locks, progress. It imports nothing above it."""
