"""All connections of an event loop, what is checked on them, and questions to the others."""
