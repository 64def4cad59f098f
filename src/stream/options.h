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

/* ERROR: the option's value is invalid; allowed, after "Allowed ", says what is valid. */
extern void kfk_invalid_option(const char *name, const char *allowed) __attribute__((noreturn));

/* The options with this text for one of them. */
extern Jsonb *kfk_replace_option(Jsonb *options, const char *name, const char *text);

/*
 * Options with the function of option transform, and the type of message_type,
 * under names that mean the same in any session; *columns_of becomes the relation
 * whose columns messages fill, InvalidOid if there is none.  (transform_option_pg.c)
 */
extern Jsonb *kfk_resolve_transform(Jsonb *options, Oid target, Oid *columns_of);

/* ERROR unless the owner's workers could run the SELECT of option transform, if it is one; options as from kfk_check_options(). */
extern void kfk_check_select(Jsonb *options, Oid target, Oid owner);

/* Options with their list of partitions ([3, 1] or "0-3, 7"), if they have one, as an array of numbers in order.  (share_pg.c) */
extern Jsonb *kfk_resolve_partitions(Jsonb *options);

#endif							/* MILLRACE_STREAM_OPTIONS_H */
