"""The gateway of `tacit serve`: the OpenAI API on the user's own machine, where prompts become shares.

| file | what it has |
| --- | --- |
| app | the routes |
| guard | who may ask at all: Host, Origin, token, content type, size |
| requests, replies | the API's objects, as pydantic models |
| completions, chat, responses, embeddings | one kind of request each: what it asks for, and its answer in one piece or as a stream |
| prompting | what a chat request means for a model: template, tools, form of the answer |
| running | a request's answers on their way, from the batcher's thread to the event loop |
| streams | server-sent events, with a sign of life every second |
| problems | errors as the API has them |
| offers, cluster | which models there are: as the routes need it, and those of a cluster |
| asking, spelling | from a request to answers; log-probabilities as text |
| listening, serve | `tacit serve`: where it listens, who is let in, what it says |
"""
