/*
 * select.h
 *	  A transform that is a SELECT from "message", as both libraries read it:
 *	  create_source to refuse what no worker could run, workers to run it.
 */
#ifndef MILLRACE_STREAM_SELECT_H
#define MILLRACE_STREAM_SELECT_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"
#include "utils/rel.h"

/* search_path while anything of it is looked up: the text means the same in every session, and nobody's temporary table comes first. */
#define KFK_SELECT_PATH "pg_catalog, pg_temp"

typedef struct kfk_select
{
	TupleDesc	message;		/* columns of message */
	Oid			row_type;		/* relation behind its row type; InvalidOid: it has the whole value and the properties */
	Bitmapset  *used;			/* numbers from 0 of those columns that the SELECT uses */
	Bitmapset  *filled;			/* attnums of the target's columns that it gives */
	List	   *relations;		/* OIDs of the relations it reads */
	char	   *sql;			/* see kfk_read_select() */
} kfk_select;

/* Is the text of option transform a SELECT?  Else it is the name of a function. */
extern bool kfk_is_select(const char *transform);

/*
 * Read the SELECT for a target, as the current user: message_type (NULL: the
 * target's columns) says what message is, keys (NULL: none) which columns of the
 * target must be given, as attnums less FirstLowInvalidHeapAttributeNumber.
 * select->sql is a SELECT from an ephemeral relation "millrace_messages" with the
 * message's columns as c0, c1, ... and a bigint "place"; it gives the columns of
 * filled in the target's order, of the target's types (without their length where
 * the INSERT sees to it), then the row's message's place, and false.
 * ERROR, which names the option, if it is not one SELECT that gives rows of the
 * target.  search_path must be KFK_SELECT_PATH.  All memory is the current
 * context's; relations named are locked as by any SELECT.
 */
extern void kfk_read_select(kfk_select *select, const char *text, const char *message_type, Relation target, const Bitmapset *keys);

/* To be called in PG_CATCH(): the error again, naming the option.  text: what positions in it refer to. */
extern void kfk_blame_select(const char *text, MemoryContext cxt) __attribute__((noreturn));

#endif							/* MILLRACE_STREAM_SELECT_H */
