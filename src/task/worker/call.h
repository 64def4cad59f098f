/*
 * call.h
 *	  What the files of lane call share: one process a role, which has many
 *	  calls to its providers under way at once.
 *
 *	call_main_pg.c		life of the process: look, claim, turn, end, wait
 *	call_look_pg.c		what the tables say while calls run: paused providers, cancelled tasks
 *	call_claim_pg.c		which tasks may begin: slots, limits, breakers
 *	call_start_pg.c		a task becomes a request and begins
 *	call_judge_pg.c		what its answer comes to
 *	call_result_pg.c	the result of a good one, as jsonb
 *	call_settings_pg.c	the foreign server
 *	call_link_pg.c		connections to providers, and sleeping on all of them
 *
 * Seeking, claiming and ending tasks is lane.h's, requests and answers are dialect.h's, libcurl is transfer.h's.
 */
#ifndef MILLRACE_TASK_CALL_H
#define MILLRACE_TASK_CALL_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "utils/jsonb.h"

#include "task/http.h"
#include "task/limits.h"
#include "task/worker/dialect.h"
#include "task/worker/lane.h"
#include "task/worker/s3.h"
#include "task/worker/transfer.h"

/* A net of a provider as it was when it was opened; one that is old is closed once its calls have ended. */
typedef struct tsk_link
{
	dlist_node	node;
	tsk_net    *net;
	int			calls;			/* begun, and not freed */
	bool		old;
} tsk_link;

/* A task of which a claim has been told that it may be taken. */
typedef struct tsk_admitted
{
	pg_uuid_t	id;
	bool		moves_on;		/* to its next provider: it was not admitted here */
	tsk_pass	pass;
} tsk_admitted;

/* A foreign server that tasks of ours go to: subject of its queue.  Lives as long as the process. */
typedef struct tsk_provider
{
	tsk_task_queue *queue;

	/* the server, by call_settings_pg.c */
	MemoryContext cxt;			/* of the strings here; wiped and reset when read again */
	Oid			server;			/* InvalidOid: it is not to be used, because: */
	char		sqlstate[6];
	char	   *error;
	bool		stores;			/* api s3: paths are bucket/key, requests are signed */
	tsk_api		api;
	tsk_store	store;			/* url; of api s3 all of it */
	char	   *model;			/* NULL: none */
	char	   *embedding_model;	/* NULL: none */
	char	   *api_key;		/* NULL: none */
	bool		stream;
	tsk_limits	limits;
	tsk_net_options net;
	uint64		version;		/* of what was read */

	/* its life here */
	tsk_link   *link;			/* NULL: none yet */
	int			n_running;
	bool		was_paused;		/* at the last look */
	bool		refused;		/* an answer pauses it, which is not written yet */
	TimestampTz closed_until;	/* its limits or its breaker let nothing begin before */
	TimestampTz looked;			/* when it was last asked for tasks ... */
	uint64		heard;			/* ... after so many changes */
	bool		more;			/* and there may be more */

	/* of one claim */
	bool		barred;			/* nothing may be taken now */
	bool		unwell;			/* its breaker is not closed */
	int			room;			/* how many may begin */
	int			n_passed;		/* candidates that must wait for it */
	int			n_admitted;
	tsk_admitted admitted[TSK_MAX_CONCURRENCY];
} tsk_provider;

/* A claimed task on its way: its subject. */
typedef struct tsk_errand
{
	tsk_task   *task;
	tsk_provider *provider;
	tsk_link   *link;			/* of transfer */
	tsk_transfer *transfer;
	bool		admitted;		/* pass is valid */
	tsk_pass	pass;
	tsk_dialect_request request;	/* malloc'd; body of the transfer */
	bool		cut_short;		/* its limit of time is its own, not its provider's */
} tsk_errand;

/* call_main_pg.c */
extern dlist_head tsk_claimed;	/* tasks not begun yet */
extern dlist_head tsk_running;	/* tasks with a transfer */
extern dlist_head tsk_finished; /* tasks to be ended */
extern int	tsk_n_running;
extern int	tsk_n_finished;
extern void tsk_free_call(tsk_errand *errand);	/* its transfer and request, given up if need be */
extern void tsk_finish_errand(tsk_errand *errand);	/* it has its outcome: its call is freed, its task among the finished */

/* call_look_pg.c; a transaction each */
extern void tsk_look(const tsk_lane *lane); /* new queues, altered servers, cancelled tasks */
extern void tsk_refresh_providers(void);	/* servers alone, if any was altered */
extern int	tsk_providers(tsk_provider ***out); /* as of the last look */

/* call_claim_pg.c */
extern bool tsk_claim_tasks(tsk_lane *lane, tsk_provider *provider);	/* and start them; false: there was none */
extern TimestampTz tsk_next_claim(const tsk_lane *lane, const tsk_provider *provider);	/* when it is worth asking again, by tsk_now(); DT_NOEND: when something changes */
extern void tsk_give_back(tsk_errand *errand, int used, tsk_health health, bool slow_down);	/* its admission is over */

/* call_settings_pg.c; in a transaction */
extern bool tsk_providers_stale(void);	/* may any have changed since the last call? */
extern void tsk_doubt_providers(void);	/* yes */
extern void tsk_load_provider(tsk_provider *provider);

/* call_start_pg.c */
extern void tsk_start_errand(tsk_errand *errand);	/* begun, or finished at once */
extern void tsk_fail_errand(tsk_errand *errand, const char *sqlstate, const char *error);

/* call_judge_pg.c */
extern void tsk_judge_errand(const tsk_lane *lane, tsk_errand *errand);

/* call_result_pg.c */
extern Jsonb *tsk_llm_result(const tsk_errand *errand, const tsk_dialect_answer *answer);
extern Jsonb *tsk_embed_result(const tsk_errand *errand, const tsk_dialect_answer *answer);
extern Jsonb *tsk_fetch_result(const tsk_errand *errand);

/* call_link_pg.c */
extern tsk_link *tsk_open_link(tsk_provider *provider);	/* ERROR if that cannot be */
extern void tsk_retire_link(tsk_provider *provider);	/* no new call goes over it */
extern void tsk_close_links(bool all);	/* old ones without a call, or all with all their calls */
extern void tsk_turn_links(void);
extern tsk_errand *tsk_next_answer(void);	/* an errand whose transfer has ended; NULL: none */
extern void tsk_forgive_links(int64 us);
extern void tsk_wait_links(TimestampTz until);	/* by the server's clock */

#endif							/* MILLRACE_TASK_CALL_H */
