/*
 * options_pg.h
 *	  Options of servers and user mappings of wrapper millrace_http, as workers of requests and of calls need them.
 */
#ifndef MILLRACE_TASK_OPTIONS_PG_H
#define MILLRACE_TASK_OPTIONS_PG_H

#include "postgres.h"

#include "foreign/foreign.h"

#include "task/worker/s3.h"
#include "task/worker/transfer.h"

/* What an option says, or what stands for it where it is not given; NULL (0): neither. */
extern const char *tsk_option(List *from, const char *name);
extern int64 tsk_whole_option(List *from, const char *name);

extern char *tsk_keep(const char *text);	/* a copy in the current context; NULL of NULL */

/* Strings are copied into the current context; secret_key is taken as it is. */
extern void tsk_read_store(List *options, List *mapping, char *secret_key, tsk_store *store);
extern void tsk_read_net(const ForeignServer *server, tsk_net_options *net);	/* all but connections and budget */

extern void tsk_wipe_store(tsk_store *store);	/* its secrets, before their context is reset */

#endif							/* MILLRACE_TASK_OPTIONS_PG_H */
