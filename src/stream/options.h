/*
 * options.h
 *	  Options of create_source, for the function that takes them.
 */
#ifndef MILLRACE_STREAM_OPTIONS_H
#define MILLRACE_STREAM_OPTIONS_H

#include "postgres.h"

#include "utils/jsonb.h"

/*
 * ERROR if one is wrong for a source into this target; *options may become
 * another object that means the same in any session.  Returns the owner named
 * among them, or NULL.
 */
extern char *kfk_check_options(Jsonb **options, Oid target);

/* Options with their list of partitions ([3, 1] or "0-3, 7"), if they have one, as an array of numbers in order.  (share_pg.c) */
extern Jsonb *kfk_resolve_partitions(Jsonb *options);

#endif							/* MILLRACE_STREAM_OPTIONS_H */
