/*
 * dialect.h
 *	  What language model servers are asked and what they answer: Ollama's
 *	  /api/generate, /api/chat and /api/embed, OpenAI's /v1/chat/completions and
 *	  /v1/embeddings (also vLLM's, llama.cpp's).  Pure: bytes in, bytes out.
 *
 * Requests are made of a task's payload, answers taken apart whether they came in one piece or as a stream (lines of JSON; server-sent events).
 * Whatever a server sends, nothing here trusts it.
 */
#ifndef MILLRACE_TASK_DIALECT_H
#define MILLRACE_TASK_DIALECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/env.h"
#include "core/status.h"

typedef enum tsk_api
{
	TSK_API_OLLAMA,
	TSK_API_OPENAI
} tsk_api;

typedef enum tsk_ask
{
	TSK_ASK_TEXT,				/* payload: prompt | messages, system, options {temperature, max_tokens, stop, seed …}, format, model */
	TSK_ASK_VECTORS				/* payload: input: a text or an array of them, options, model */
} tsk_ask;

typedef struct tsk_dialect
{
	tsk_api		api;
	tsk_ask		ask;
	const char *url;			/* of the server; OpenAI's: without a path /v1 is meant, else the path stands for it */
	const char *model;			/* unless the payload names one; NULL: none */
	const char *prompt;			/* text in which {{name}} stands for the payload's value of that name; NULL: the payload has prompt or messages */
	bool		stream;			/* ask for a stream */
} tsk_dialect;

/* A request.  url and body (JSON, UTF-8) are one malloc'd block at url. */
typedef struct tsk_dialect_request
{
	tsk_api		api;
	tsk_ask		ask;
	int			n_inputs;		/* vectors asked for */
	char	   *url;
	char	   *body;
	size_t		len;
} tsk_dialect_request;

/* Make it.  payload: JSON in UTF-8.  MR_INVALID names what is wrong with it. */
extern mr_code tsk_dialect_write(const tsk_dialect *dialect, const char *payload, size_t len, const mr_env *env,
								 tsk_dialect_request *out, mr_status *st);

typedef struct tsk_dialect_answer
{
	char	   *text;			/* malloc'd, zero-terminated, UTF-8, not empty; NULL for vectors */
	size_t		len;
	float	   *vectors;		/* malloc'd (n, dim), in the order of the input, finite; NULL for text */
	int			n,
				dim;
	char		model[128];		/* that answered; "": it did not say */
	char		finish[32];		/* "stop", "length" …; "": it did not say */
	int			tokens_in;		/* -1: it did not say */
	int			tokens_out;
} tsk_dialect_answer;

/*
 * Take a 2xx answer's body apart.  MR_INVALID: it is malformed, says an error, calls a tool, has no text, or is cut off (a stream without its
 * end); MR_NOMEM, MR_CANCELED.  Only what succeeds has anything to be freed: text, vectors.
 */
extern mr_code tsk_dialect_read(const tsk_dialect_request *request, const char *body, size_t len, const mr_env *env,
								tsk_dialect_answer *out, mr_status *st);

/* What an error's body says, in one line of UTF-8 without control characters; "" if nothing. */
extern void tsk_dialect_error(const char *body, size_t len, char *out, size_t size);

/* Blot a secret out wherever a server repeats it in a text: each occurrence becomes asterisks.  Secrets of less than 8 bytes are left. */
extern void tsk_dialect_blot(char *text, size_t len, const char *secret);

#endif							/* MILLRACE_TASK_DIALECT_H */
