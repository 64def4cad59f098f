/*
 * dialect_int.h
 *	  What the files of the dialects share: an answer that is being read.
 *
 * dialect.c writes requests, dialect_error.c says what errors say, dialect_read.c reads documents, dialect_stream.c finds those of a stream.
 */
#ifndef MILLRACE_TASK_DIALECT_INT_H
#define MILLRACE_TASK_DIALECT_INT_H

#include "core/json.h"
#include "task/worker/dialect.h"

typedef struct tsk_reader
{
	const tsk_dialect_request *request;
	const mr_env *env;
	mr_status  *st;
	tsk_dialect_answer *answer; /* its text has room for the whole body: what is unescaped never grows */
	size_t		body_len;
	char	   *seen;			/* which vectors have come */
	bool		ended;			/* the end was said: done, or a reason to finish */
	bool		tools;			/* a tool is called */
	char		refusal[200];
} tsk_reader;

/* Read the one document at js->p, an object, and add what it says to the answer. */
extern mr_code tsk_read_document(tsk_reader *r, mr_json *js);

/* Server-sent events: a document each, until "[DONE]". */
extern mr_code tsk_read_events(tsk_reader *r, const char *body, size_t len);

/* Documents one behind the other, as Ollama streams them. */
extern mr_code tsk_read_lines(tsk_reader *r, const char *body, size_t len);

/* The string at js->p, cut to what out holds but never amid a character; anything else is passed over. */
extern bool tsk_read_word(mr_json *js, char *out, size_t size);

#endif							/* MILLRACE_TASK_DIALECT_INT_H */
