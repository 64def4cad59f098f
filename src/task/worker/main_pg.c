/*
 * main_pg.c
 *	  Life of an http worker: claim requests and commit, carry them out, settle
 *	  what they came to.
 *
 * No transaction is open while the network is waited for, whatever a server
 * does.  A request counts as attempted from its claim on; its result counts if
 * its row still carries our epoch when it is settled.
 *
 * A server in trouble (five times in a row no answer, or that it is overloaded) is spared new requests but for one
 * now and then, which finds out when it is well again; those that have begun go
 * on by their own pauses.
 *
 * Whatever ERROR is not a delivery's own ends in forgetting everything and
 * taking the queue over anew, as a new process would.
 *
 * Memory: each request in a context of its own, answers in malloc'd buffers
 * bounded by the net's budget.  Locks: none between transactions.
 */
#include "postgres.h"

#include "task/worker/worker.h"

#include "access/xact.h"
#include "common/pg_prng.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/compat.h"
#include "core/failpoint.h"
#include "core/process_pg.h"
#include "core/shared_pg.h"
#include "task/http.h"

#define LOOK_MS 1000			/* for new requests, even if nobody rang; and longest nap */
#define IDLE_MS 60000			/* with nothing to do, before the process ends */
#define STRIKES 5				/* such faults in a row after which a server is spared */
#define SPARE_MAX_MS 10000		/* longest pause before a new request finds out */
#define TROUBLE_MS 50			/* first pause after a delivery met trouble; doubles ... */
#define TROUBLE_MAX_MS 10000	/* ... up to here */

extern PGDLLEXPORT void millrace_http_main(Datum arg);

static tsk_net *net = NULL;
static int	nets = 0;			/* opened so far */
static bool net_outdated = false;	/* by changed settings */
static dlist_head claimed;		/* jobs to be started */
static dlist_head running;		/* jobs with a transfer */
static dlist_head finished;		/* jobs to be settled */
static int	n_running = 0;
static int	n_finished = 0;
static int64 outgoing = 0;		/* bytes of contents of all of them */

/* The server's health. */
static int	strikes = 0;		/* requests in a row that it did not answer, or was too busy for */
static int	spared = 0;			/* pauses since it was last well */
static TimestampTz spare_until = 0; /* no new request until then, then one */
static TimestampTz wait_until = 0;	/* no new requests until then: it asked for that */

/* Of deliveries. */
static int	troubles = 0;		/* in a row */
static TimestampTz settle_at = 0;

static int64
now_us(void)
{
	return GetCurrentTimestamp();
}

static void
drop_job(tsk_job *job)
{
	outgoing -= tsk_weight(job);
	tsk_free(net, job->transfer);
	MemoryContextDelete(job->cxt);
}

static void
drop_all(void)
{
	dlist_head *const lists[] = {&claimed, &running, &finished};

	for (int i = 0; i < 3; i++)
		while (!dlist_is_empty(lists[i]))
			drop_job(dlist_container(tsk_job, node, dlist_pop_head_node(lists[i])));
	n_running = n_finished = 0;
	outgoing = 0;
	tsk_net_close(net);
	net = NULL;
	strikes = spared = troubles = 0;
	spare_until = wait_until = settle_at = 0;
}

/* Before libcurl's destructors. */
static void
close_at_exit(int code, Datum arg)
{
	tsk_net    *n = net;

	net = NULL;
	tsk_net_close(n);
}

/* End if the queue is paused, dropped, changed or taken over; looked at once a second, or when told. */
static void
check_queue(const tsk_queue *queue)
{
	static TimestampTz checked = 0;

	if (!mr_worker_changed() && now_us() - checked < LOOK_MS * INT64CONST(1000))
		return;
	checked = now_us();
	if (tsk_queue_unchanged(queue))
		return;
	tsk_report(queue, "stopped", NULL, NULL);
	proc_exit(0);
}

/* Have settings that are up to date, and a net made by them; a net in use stays until it is not. */
static void
refresh_settings(const tsk_queue *queue, tsk_settings *settings)
{
	char		error[128];

	if (tsk_settings_stale())
	{
		mr_begin("read the server");
		tsk_load_settings(queue->server, settings);
		mr_commit();
		net_outdated = true;
	}
	if (net_outdated && n_running == 0 && n_finished == 0)
	{
		tsk_net_close(net);
		net = tsk_net_open(&settings->net, error, sizeof(error));
		if (net == NULL)
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("libcurl could not be set up: %s", error)));
		nets++;
		net_outdated = false;
	}
}

/* ---- one request */

static void
fail_job(tsk_job *job, tsk_fault fault, const char *sqlstate, const char *error)
{
	MemoryContext old = MemoryContextSwitchTo(job->cxt);

	job->fault = fault;
	strlcpy(job->sqlstate, sqlstate, sizeof(job->sqlstate));
	job->error = psprintf("object \"%s\": %s", job->path, mr_plain(error));
	MemoryContextSwitchTo(old);
}

/* The next new request finds out whether the server is well after this pause, and a longer one if it is not. */
static void
spare(int backoff_ms)
{
	spare_until = now_us() + Min((int64) backoff_ms << Min(spared, 8), SPARE_MAX_MS) * 1000;
	spared++;
}

/*
 * Is the server unwell: does it answer nothing, or that it is overloaded?  An
 * error, or half an answer, may be the fault of one object.
 */
static void
note_health(const tsk_outcome *o, const tsk_transfer *t, int backoff_ms)
{
	bool		ill = o->fault == TSK_F_OVERLOADED || (o->again && t->status == 0) || t->status == 502 || t->status == 504;

	if (!ill)
	{
		strikes = spared = 0;
		return;
	}
	if (++strikes == STRIKES)
		spare(backoff_ms);
	if (o->fault == TSK_F_OVERLOADED && t->retry_after_ms > 0)
		wait_until = Max(wait_until, now_us() + Min(t->retry_after_ms, SPARE_MAX_MS) * 1000);
}

/* What its answer means. */
static void
judge_job(tsk_job *job, const tsk_settings *settings)
{
	const tsk_transfer *t = job->transfer;
	tsk_outcome o;

	tsk_judge(t, &o);
	note_health(&o, t, settings->backoff_ms);
	if (o.fault == TSK_FINE)
		return;
	if (o.again && job->attempts < settings->max_attempts)
	{
		int64		pause = tsk_pause_ms(job->attempts, settings->backoff_ms, pg_prng_double(&pg_global_prng_state), (t->retry_after_ms + 999) / 1000);

		job->again = true;
		job->due_at = now_us() + pause * 1000;
	}
	fail_job(job, o.fault, o.sqlstate, o.again && !job->again ? psprintf("%s (attempt %d, the last)", o.error, job->attempts) : o.error);
}

static void
finish_job(tsk_job *job)
{
	dlist_push_tail(&finished, &job->node);
	n_finished++;
}

/* Send it off, unless it has failed before it began. */
static void
start_job(tsk_job *job, const tsk_settings *settings)
{
	tsk_s3_request request;
	tsk_call	call = {.method = job->method,.url = request.url,.headers = request.headers};
	mr_status	st;
	char		error[128];
	char	   *path = pg_server_to_any(job->path, (int) strlen(job->path), PG_UTF8);

	dlist_delete(&job->node);
	outgoing += tsk_weight(job);
	if (strcmp(job->sqlstate, "22023") == 0)
	{
		/* fetch_object() knew it already. */
		job->fault = TSK_F_REFUSED;
		finish_job(job);
		return;
	}
	job->sqlstate[0] = '\0';
	if (job->attempts > settings->max_attempts)
	{
		fail_job(job, TSK_F_LOST, "58000", psprintf("given up after %d attempts that ended with their worker or its transaction", job->attempts - 1));
		finish_job(job);
		return;
	}
	job->error = NULL;
	if (job->content)
	{
		call.body = VARDATA_ANY(job->content);
		call.body_len = VARSIZE_ANY_EXHDR(job->content);
	}
	if (tsk_s3_prepare(&settings->store, job->method, path, call.body, call.body_len, job->content_type, (int64_t) time(NULL), &request, &st) != MR_OK)
	{
		fail_job(job, TSK_F_REFUSED, "22023", st.message);
		finish_job(job);
		return;
	}
	call.n_headers = request.n_headers;
	job->transfer = tsk_start(net, &call, job, error, sizeof(error));
	explicit_bzero(request.text, sizeof(request.text));
	if (job->transfer == NULL)
	{
		fail_job(job, TSK_F_LOST, "53200", error);
		job->again = job->attempts < settings->max_attempts;
		job->due_at = now_us() + settings->backoff_ms * INT64CONST(1000);
		finish_job(job);
		return;
	}
	dlist_push_tail(&running, &job->node);
	n_running++;
}

/* ---- all of them */

/* Claim as many as may run, and start them.  True: there was something. */
static bool
claim_some(const tsk_queue *queue, const tsk_settings *settings)
{
	static TimestampTz looked = 0;
	static uint64 seen = 0;
	uint64		rung = mr_change_count(MR_CHANGE_HTTP, MyDatabaseId);
	TimestampTz now = now_us();
	int			most = settings->concurrency - n_running - Max(n_finished - settings->concurrency, 0);
	int			most_new = most;
	int			n;

	if (net_outdated || troubles > 0 || most <= 0 || (most < settings->concurrency / 4 && n_running > 0))
		return false;
	if (now < wait_until || (strikes >= STRIKES && now < spare_until))
		most_new = 0;
	else if (strikes >= STRIKES)
	{
		most_new = 1;
		spare(settings->backoff_ms);
	}
	if (tsk_next_due() > now && (most_new == 0 || (!tsk_more_waits() && rung == seen && now - looked < LOOK_MS * INT64CONST(1000))))
		return false;
	n = tsk_claim(queue, most, most_new, TSK_OUTGOING - outgoing, &claimed);
	tsk_net_forgive(net, now_us() - now);
	if (n < 0)
		return true;
	if (most_new > 0)
	{
		seen = rung;
		looked = now;
	}
	if (n == 0)
		return false;
	MR_FAILPOINT("http.claimed");
	while (!dlist_is_empty(&claimed))
		start_job(dlist_container(tsk_job, node, dlist_head_node(&claimed)), settings);
	MR_FAILPOINT("http.started");
	return true;
}

static void
take_finished(const tsk_settings *settings)
{
	tsk_transfer *t;

	tsk_net_turn(net);
	while ((t = tsk_net_done(net)) != NULL)
	{
		tsk_job    *job = t->subject;

		dlist_delete(&job->node);
		n_running--;
		judge_job(job, settings);
		finish_job(job);
	}
}

static void
settle_finished(tsk_queue *queue, const tsk_settings *settings)
{
	tsk_job   **jobs = palloc(sizeof(tsk_job *) * (size_t) n_finished);
	TimestampTz begun = now_us();
	dlist_mutable_iter it;
	int			n = 0;

	MR_FAILPOINT("http.finished");
	dlist_foreach_modify(it, &finished)
		jobs[n++] = dlist_container(tsk_job, node, it.cur);
	if (tsk_settle(queue, settings, jobs, n))
		troubles = 0;
	else
	{
		settle_at = now_us() + (troubles < 8 ? TROUBLE_MS << troubles : TROUBLE_MAX_MS) * INT64CONST(1000);
		troubles++;
	}
	tsk_net_forgive(net, now_us() - begun);
	for (int i = 0; i < n; i++)
		if (jobs[i]->id == 0)
		{
			dlist_delete(&jobs[i]->node);
			n_finished--;
			drop_job(jobs[i]);
		}
}

/* Sleep until something happens: a socket, the latch, a limit of time, a request that is due. */
static void
wait_for_more(void)
{
	static WaitEventSet *set = NULL;
	static int	waits_for = 0;	/* the net of this number */
	WaitEvent	event;
	TimestampTz now = now_us();
	TimestampTz until = now + LOOK_MS * INT64CONST(1000);
	int			net_ms = tsk_net_wait_ms(net);

	if (waits_for != nets)
	{
		if (set)
			FreeWaitEventSet(set);
		set = NULL;				/* should the next fail */
		set = CompatCreateWaitEventSet(3);
		AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
		AddWaitEventToSet(set, WL_SOCKET_READABLE, tsk_net_fd(net), NULL, NULL);
		waits_for = nets;
	}
	until = Min(until, tsk_next_due());
	if (net_ms >= 0)
		until = Min(until, now + net_ms * INT64CONST(1000));
	if (n_finished > 0)
		until = Min(until, settle_at);
	if (WaitEventSetWait(set, until > now ? (long) ((until - now) / 1000 + 1) : 0, &event, 1, PG_WAIT_EXTENSION) == 1 &&
		event.events & WL_LATCH_SET)
		ResetLatch(MyLatch);
	mr_answer_server();
}

static void
turn(tsk_queue *queue, tsk_settings *settings)
{
	static TimestampTz busy = 0;	/* when there was last something to do */
	bool		some;

	check_queue(queue);
	refresh_settings(queue, settings);
	take_finished(settings);
	some = claim_some(queue, settings);
	if (n_finished > 0 && now_us() >= settle_at)
	{
		settle_finished(queue, settings);
		some = true;
	}
	if (troubles == 0)
		tsk_report(queue, "running", NULL, NULL);
	if (some || n_running + n_finished > 0 || tsk_next_due() != DT_NOEND || tsk_more_waits() || busy == 0)
		busy = now_us();
	else if (now_us() - busy > IDLE_MS * INT64CONST(1000))
	{
		tsk_go_idle(queue, tsk_seen());
		proc_exit(0);
	}
	if (!some)
	{
		pgstat_report_stat(false);
		wait_for_more();
	}
	else
		mr_answer_server();
}

void
millrace_http_main(Datum arg)
{
	const mr_worker_args *args = mr_worker_begin(MR_HTTP_TYPE);
	tsk_queue	queue = {.id = args->index,.generation = args->config};
	tsk_settings settings = {0};
	MemoryContext cxt;
	volatile int failures = 0;
	volatile bool ready = false;

	before_shmem_exit(close_at_exit, 0);
	/* What is put into a store must not be undone by a crash. */
	if (synchronous_commit < SYNCHRONOUS_COMMIT_REMOTE_FLUSH)
		SetConfigOption("synchronous_commit", "on", PGC_USERSET, PGC_S_SESSION);
	dlist_init(&claimed);
	dlist_init(&running);
	dlist_init(&finished);
	queue.server = MemoryContextStrdup(TopMemoryContext, args->name);
	settings.cxt = AllocSetContextCreate(TopMemoryContext, "millrace server", ALLOCSET_SMALL_SIZES);
	cxt = AllocSetContextCreate(TopMemoryContext, "millrace turn", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		PG_TRY();
		{
			MemoryContextSwitchTo(cxt);
			MemoryContextReset(cxt);
			if (!ready)
			{
				if (!tsk_take_over(&queue))
					proc_exit(0);
				tsk_forget_all();
				ready = true;
			}
			turn(&queue, &settings);
			failures = 0;
		}
		PG_CATCH();
		{
			ErrorData  *error = mr_recover(cxt);

			drop_all();
			net_outdated = true;
			ready = false;
			tsk_report(&queue, "waiting", unpack_sql_state(error->sqlerrcode), error->message);
			failures++;
			mr_wait_latch(mr_pause_ms(failures));
		}
		PG_END_TRY();
	}
}
