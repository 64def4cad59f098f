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
	TSK_ASK_TEXT,				/* payload: prompt | messages, system, options {temperature, max_tokens, stop, seed …}, format, stream */
	TSK_ASK_VECTORS				/* payload: input: a text or an array of them */
} tsk_ask;

/* A request: path behind the server's url, body (JSON, UTF-8), both in one malloc'd block at path. */
typedef struct tsk_dialect_request
{
	char	   *path;
	char	   *body;
	size_t		len;
} tsk_dialect_request;

/* Make it.  payload: JSON in UTF-8.  model: the payload's own "model" comes first; NULL: none.  MR_INVALID names what is wrong. */
extern mr_code tsk_dialect_write(tsk_api api, tsk_ask ask, const char *payload, size_t len, const char *model, const mr_env *env,
								 tsk_dialect_request *out, mr_status *st);

typedef struct tsk_dialect_answer
{
	char	   *text;			/* malloc'd, UTF-8, no NUL inside; NULL for vectors */
	size_t		len;
	float	   *vectors;		/* malloc'd, n of dim each, in the order of the input; NULL for text */
	int			n,
				dim;
	char		model[128];		/* that answered; "": it did not say */
	char		finish[32];		/* "stop", "length" …; "": it did not say */
	int			tokens_in;		/* -1: it did not say */
	int			tokens_out;
} tsk_dialect_answer;

/* Take a 2xx answer's body apart; MR_INVALID: it is malformed, or says an error, or is cut off (a stream without its end).  Free text, vectors. */
extern mr_code tsk_dialect_read(tsk_api api, tsk_ask ask, const char *body, size_t len, const mr_env *env, tsk_dialect_answer *out, mr_status *st);

/* What an error's body says, in one line without control characters; "" if nothing. */
extern void tsk_dialect_error(const char *body, size_t len, char *out, size_t size);

/* Tokens that a call is likely to take: its texts' bytes / 4 and what it may answer.  The same estimate is made at submission. */
extern int	tsk_dialect_weight(tsk_ask ask, const char *payload, size_t len);

#endif							/* MILLRACE_TASK_DIALECT_H */
