/*
 * server_pg.h
 *	  Foreign servers and user mappings of our wrappers: what they may say, and
 *	  reading it.
 */
#ifndef MILLRACE_SERVER_PG_H
#define MILLRACE_SERVER_PG_H

#include "foreign/foreign.h"

typedef enum mr_option_place
{
	MR_ON_SERVER,				/* CREATE SERVER */
	MR_ON_MAPPING				/* CREATE USER MAPPING: secrets and who we are */
} mr_option_place;

/* An option.  What a wrapper does not list is refused. */
typedef struct mr_option
{
	const char *name;			/* in SQL */
	mr_option_place place;
	bool		superuser;		/* only a superuser may set it: opens our network, reads server files or weakens TLS */
	const char *words;			/* "a|b" where only these are allowed */
	int64		low,
				high;			/* low < high: a whole number within */
	const char *fallback;		/* where it is not given; NULL: nothing */
	const char *property;		/* what the library that carries it out calls it; NULL: it knows nothing of it */
} mr_option;

typedef struct mr_wrapper
{
	const char *name;
	const mr_option *options;
	int			n_options;
	void		(*check_value) (const mr_option *option, const char *value);	/* beyond words and numbers; ERROR if wrong */
} mr_wrapper;

/* For a validator: its arguments' options, each of them allowed there; ERROR otherwise. */
extern List *mr_check_options(const mr_wrapper *wrapper, Datum options, Oid catalog);
extern bool mr_is_one_of(const char *word, const char *alternatives);	/* "a|b|c" */

/* Value of an option, NULL if it is not given. */
extern const char *mr_option_value(List *options, const char *name);

/* A server of this wrapper, ERROR if it is none; mr_use_server(): one that the current user may use. */
extern ForeignServer *mr_find_server(const char *name, const char *wrapper);
extern ForeignServer *mr_use_server(const char *name, const char *wrapper);

/* Options of the current user's mapping, or of everybody's; NIL if there is none. */
extern List *mr_mapping_options(const ForeignServer *server);

/* May it be at a private address?  By option allow_private, or because a superuser owns it. */
extern bool mr_private_allowed(const ForeignServer *server);

#endif							/* MILLRACE_SERVER_PG_H */
