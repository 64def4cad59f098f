/*
 * submit.h
 *	  What the SQL functions of tasks share.
 */
#ifndef MILLRACE_TASK_SUBMIT_H
#define MILLRACE_TASK_SUBMIT_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#define TSK_MAX_PROVIDERS 16

extern int	tsk_quota;			/* millrace.task_quota */
extern int	tsk_max_bytes;		/* millrace.task_max_bytes */

/* A row of millrace.task_kinds. */
typedef struct tsk_kind
{
	char		name[256];		/* key of the cache */
	char	   *base;
	char	   *function;		/* may be NULL */
	int			prompt;			/* bytes of it; 0: there is none */
	Jsonb	   *options;
} tsk_kind;

/* A kind by its name; ERROR if there is none.  It lives until the kinds change: for this statement at least, if nothing else is run. */
extern const tsk_kind *tsk_find_kind(const char *name);

/* Options of submit_task(); what was not given is 0 or NULL, but for the two that have another default. */
typedef struct tsk_wish
{
	int			priority;
	int			max_attempts;
	int			timeout_ms;
	TimestampTz due_at;
	TimestampTz delayed;		/* from delay */
	TimestampTz deadline;
	char	   *key;
	char	   *order_key;
	char	   *tag;
	char	   *tenant;
	char	   *deliver;
	char	   *watch;
	int			n_providers;
	char	   *providers[TSK_MAX_PROVIDERS];	/* a chain of fallbacks */
	double		weights[TSK_MAX_PROVIDERS]; /* weighted: one of them is drawn, by its part of the sum */
	bool		weighted;
} tsk_wish;

#define TSK_NO_WISH ((tsk_wish) {.priority = 5, .max_attempts = 11})

/* Options as given, over what wish says already; ERROR for unknown ones and wrong values.  Strings lie in the current context. */
extern void tsk_read_options(Jsonb *options, TimestampTz now, tsk_wish *wish);

/*
 * The qualified name of function name(types), as the caller's search_path finds it; ERROR unless role may call it.
 * result: what it must return; InvalidOid: anything.
 */
extern char *tsk_check_function(const char *name, int n, const Oid *types, Oid result, Oid role);

/* ERROR unless the caller is a member of role owner, or of millrace_admin; before mr_owner_begin(). */
extern void tsk_check_rights(const char *owner, const char *what);

/* Ids of tasks: seq in front, chance behind (tasks.h); a number within [0, 1) by the latter. */
extern void tsk_make_id(int64 seq, pg_uuid_t *id);
extern double tsk_id_chance(const pg_uuid_t *id);

#endif							/* MILLRACE_TASK_SUBMIT_H */
