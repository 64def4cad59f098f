/*
 * secret_pg.h
 *	  Secrets of user mappings, written there or in a file that the mapping names.
 */
#ifndef MILLRACE_TASK_SECRET_PG_H
#define MILLRACE_TASK_SECRET_PG_H

#include "nodes/pg_list.h"

/*
 * The secret of a mapping: its option (api_key, secret_key), or what its secret_file contains; NULL: neither is given.
 * In the current context; wipe it before that is reset.  ERROR, 28000 (class auth: the provider is paused), if the file cannot be read.
 */
extern char *tsk_secret(List *mapping, const char *option);
extern void tsk_wipe(const char *secret);	/* NULL is nothing */

#endif							/* MILLRACE_TASK_SECRET_PG_H */
