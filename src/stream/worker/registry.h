/*
 * registry.h
 *	  One question to a Confluent schema registry, by libcurl.
 *
 * registry.c is the only file here that knows libcurl, and knows no PostgreSQL.
 * No call waits: turn it until it is done, and do what else is due in between.
 */
#ifndef MILLRACE_STREAM_REGISTRY_H
#define MILLRACE_STREAM_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sockaddr;

typedef struct kfk_registry
{
	const char *url;			/* of the registry; NULL: there is none */
	const char *username;		/* NULL: nobody */
	const char *password;
	const char *ca_pem;			/* NULL: the system's */
	bool		(*refuses) (const struct sockaddr *address);	/* addresses not to be connected to; NULL: none */
} kfk_registry;

typedef struct kfk_question kfk_question;

/* Ask for something below the registry's URL, such as "schemas/ids/7"; NULL, with the reason in error, if that cannot be. */
extern kfk_question *kfk_ask(const kfk_registry *registry, const char *path, char *error, size_t error_size);

/* Go on; true when there is an answer or there will be none. */
extern bool kfk_ask_turn(kfk_question *question);

/* Then: its HTTP status and its body (zero-terminated, the question's own); 0 with the reason in error if there is none. */
extern int	kfk_answer(kfk_question *question, const char **body, char *error, size_t error_size);

extern void kfk_ask_end(kfk_question *question);

#endif							/* MILLRACE_STREAM_REGISTRY_H */
