/*
 * source_main_pg.c
 *	  Life of a source worker: claim partitions, then batch after batch, each
 *	  one transaction, until told to end.
 *
 * No transaction is open while Kafka is waited for.  Whatever unsettles the
 * partitions (fenced, new partitions, a topic that went away) ends the client
 * and begins again from what the tables say.
 *
 * Memory: the source and the partitions in contexts of their own, one context
 * reset after each batch; messages belong to librdkafka until released.  Locks:
 * none between transactions.
 */
#include "postgres.h"

#include <malloc.h>

#include "stream/worker/source.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/compat.h"
#include "core/failpoint.h"
#include "core/shared_pg.h"

#define KEEP_BYTES (128 * 1024) /* larger blocks are not kept by malloc */
#define CHECK_MS 1000			/* how often the sources row is looked at */
#define PARTITIONS_MS 30000		/* how often new partitions are looked for */
#define TROUBLED_MS 2000		/* and how often after an error of a broker, to see whether it is over */
#define SILENT_LIMIT 5			/* then the client is opened again, with the options of then */

extern PGDLLEXPORT void millrace_source_main(Datum arg);

static kfk_client *client = NULL;
static kfk_taken taken;			/* messages that the client has given */
static kfk_partition *partitions = NULL;
static int	n_partitions = 0;
static int	topic_partitions = 0;
static WaitEventSet *wait_set = NULL;
static bool rescaled = false;	/* the source has another number of workers: open the client again */
static TimestampTz described = 0;	/* when the topic was looked at */
static bool held_told = false;	/* our state's reason is that messages are held back */
static bool redriving = false;	/* marked dead letters may be there */
static bool troubled = false;	/* brokers gave an error, and no sign of life since */
static char trouble[512];		/* the last one since the client was opened */

/*
 * What librdkafka frees shall leave the process, however long it has run: large
 * blocks are the kernel's to give, each time anew, as they are at first, before
 * malloc learns to keep them.  Costs a page fault where nothing else is worth one.
 */
static void
settle_malloc(void)
{
#ifdef __GLIBC__
	(void) mallopt(M_MMAP_THRESHOLD, KEEP_BYTES);
	(void) mallopt(M_TRIM_THRESHOLD, KEEP_BYTES);
#endif
}

/* Let go of the client and all its messages; partitions are no longer ours. */
static void
close_client(void)
{
	kfk_client *c = client;

	kfk_let_go(&taken, taken.n);
	n_partitions = 0;
	client = NULL;
	kfk_gauge_nothing();
	if (wait_set)
	{
		FreeWaitEventSet(wait_set);
		wait_set = NULL;
	}
	kfk_close(c);
}

/* At exit, before the library's destructors: its threads must be gone by then. */
static void
close_at_exit(int code, Datum arg)
{
	close_client();
	kfk_share_close();
}

static void
make_wait_set(void)
{
	wait_set = CompatCreateWaitEventSet(3);
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	if (client != NULL)
		AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, kfk_bell(client), NULL, NULL);
}

/* Wait for the latch, the timeout, or a message or event of the client. */
static void
wait_for_messages(int timeout_ms)
{
	WaitEvent	event;

	if (wait_set == NULL)
		make_wait_set();
	WaitEventSetWait(wait_set, timeout_ms, &event, 1, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	mr_answer_server();
}

/* Once a second, or when told of a change: end if the source is paused, halted, dropped or was changed. */
void
kfk_check_source(const kfk_source *source)
{
	static TimestampTz checked = 0;
	TimestampTz now = GetCurrentTimestamp();
	int			workers;
	bool		unchanged;

	if (!mr_worker_changed() && now - checked < CHECK_MS * INT64CONST(1000))
		return;
	mr_begin("look at the source");
	unchanged = kfk_source_unchanged(source, &workers);
	mr_commit();
	checked = now;
	kfk_share_listen(source);
	if (!unchanged)
	{
		close_client();
		kfk_report(source, "stopped", NULL, NULL);
		proc_exit(0);
	}
	rescaled = workers != source->workers;
}

/* Logs and errors of the client; cxt current is reset soon. */
static void
hear_events(const kfk_source *source)
{
	kfk_event	event;

	while (kfk_next_event(client, &event))
	{
		const char *text = mr_plain(event.text);

		if (!event.log)
		{
			troubled = true;
			strlcpy(trouble, text, sizeof(trouble));
			kfk_report(source, "waiting", "08006", text);
		}
		else
			ereport(event.level <= 4 ? LOG : DEBUG1,
					(errmsg("source \"%s\", worker %d: librdkafka: %s", source->name, source->worker, text)));
	}
}

/* Why a question got no answer: what the client said of its connections tells more than that none is there. */
static char *
cause(const char *error)
{
	return trouble[0] ? psprintf("%s (%s)", trouble, mr_plain(error)) : mr_plain(error);
}

/* What the worker lacks though it runs; NULL: nothing. */
static const char *
idle_reason(const kfk_source *source)
{
	int			missing = bms_next_member(source->only, topic_partitions - 1);

	if (source->control_topic && kfk_share_reason() != NULL)
		return kfk_share_reason();
	if (missing >= 0)
		return psprintf("partition %d does not exist yet", missing);
	return n_partitions > 0 ? NULL : "no partition is left for this worker";
}

/* Process what was taken.  True: open the client again. */
static bool
process(const kfk_source *source, MemoryContext cxt)
{
	while (taken.n > 0)
	{
		int			n = kfk_next_batch(&taken, source);

		kfk_gauge(source, client, partitions, n_partitions);
		if (kfk_batch(source, partitions, n_partitions, taken.items, n, cxt) == KFK_FENCED)
			return true;
		if (troubled)
			kfk_report(source, "running", NULL, NULL);
		troubled = false;
		mr_worker_gauge(MR_GAUGE_BATCH, (int64) MemoryContextMemAllocated(cxt, true) + taken.bytes);
		kfk_let_go(&taken, n);
		MemoryContextReset(cxt);
		kfk_check_source(source);
		CHECK_FOR_INTERRUPTS();
		if (rescaled)
			return true;
	}
	return false;
}

/*
 * One batch of the dead letters that are marked to be redriven: marks are made
 * with a new generation, so that those there are when partitions are claimed are
 * all.  False: open the client again.
 */
static bool
redrive(const kfk_source *source, MemoryContext cxt)
{
	kfk_item   *letters;
	int			n;

	if (!redriving)
		return true;
	n = kfk_marked_letters(source, partitions, n_partitions, &letters);
	redriving = n > 0;
	if (n > 0)
		MR_FAILPOINT("source.redrive");
	if (n > 0 && kfk_batch(source, partitions, n_partitions, letters, n, cxt) == KFK_FENCED)
		return false;
	MemoryContextReset(cxt);
	kfk_check_source(source);
	return !rescaled;
}

/* Transition tables hold a batch's rows: in memory, if we can help it. */
static void
raise_work_mem(const kfk_source *source)
{
	int			kb = (int) Min(source->batch_bytes / 1024 * 2, 1024 * 1024);

	if (work_mem < kb)
		SetConfigOption("work_mem", psprintf("%d", kb), PGC_USERSET, PGC_S_SESSION);
}

/*
 * Open the client and claim the partitions.  False, after saying why, if that
 * must be tried again.
 */
static bool
open_client(kfk_source *source, MemoryContext claims)
{
	MemoryContext old;
	char		error[512];
	bool		ours;
	bool		claimed;

	trouble[0] = '\0';
	MR_FAILPOINT("source.open");
	rescaled = false;
	mr_begin("read the source");
	ours = kfk_load_source(source);
	if (ours && source->worker < source->workers)
		client = kfk_open_source(source);
	mr_commit();
	if (!ours)
	{
		kfk_report(source, "stopped", NULL, NULL);
		proc_exit(0);
	}
	if (client == NULL)
	{
		kfk_share_close();
		kfk_report(source, "running", NULL, "stands by: fewer workers are in force");
		return false;
	}
	raise_work_mem(source);
	MemoryContextReset(claims);
	old = MemoryContextSwitchTo(claims);
	if (source->control_topic && !kfk_share_open(source, client, error, sizeof(error)))
	{
		MemoryContextSwitchTo(old);
		kfk_report(source, "waiting", "08001", psprintf("control topic \"%s\": %s", source->control_topic, cause(error)));
		close_client();
		return false;
	}
	for (int tries = 0;; tries++)
	{
		claimed = kfk_claim(source, client, &partitions, &n_partitions, &topic_partitions, error, sizeof(error));
		MemoryContextSwitchTo(old);
		hear_events(source);
		claimed = claimed && kfk_follow(source, client, partitions, n_partitions, error, sizeof(error));
		if (claimed || tries >= SILENT_LIMIT)
			break;

		/* The client goes from broker to broker meanwhile: a new one would begin with the first again. */
		kfk_report(source, "waiting", "08001", cause(error));
		mr_nap(CHECK_MS);
		kfk_check_source(source);
		MemoryContextReset(claims);
		MemoryContextSwitchTo(claims);
	}
	if (!claimed)
	{
		kfk_report(source, "waiting", "08001", cause(error));
		close_client();
		return false;
	}
	if (source->partitions == 0)
	{
		/* The first time: open again, with the memory divided by the partitions. */
		close_client();
		return true;
	}
	if (wait_set)
	{
		FreeWaitEventSet(wait_set);
		wait_set = NULL;
	}
	for (int i = 0; i < n_partitions; i++)
		partitions[i].taken = partitions[i].next_offset;
	redriving = n_partitions > 0;
	kfk_gauge(source, client, partitions, n_partitions);
	kfk_report(source, "running", NULL, idle_reason(source));
	return true;
}

static bool
any_unsettled(void)
{
	for (int i = 0; i < n_partitions; i++)
		if (kfk_unsettled(client, partitions[i].partition))
			return true;
	return false;
}

/*
 * Every so often: has the topic more partitions by now, do the brokers answer
 * again, does another log stand behind a partition?  False: open the client again.
 */
static bool
look_at_topic(const kfk_source *source, int every_ms)
{
	static int	silent = 0;		/* questions in a row that no broker answered */
	char		error[512];
	int			total;

	if (!TimestampDifferenceExceeds(described, GetCurrentTimestamp(), every_ms))
		return true;
	if (!kfk_describe(client, source->topic, CHECK_MS, &total, error, sizeof(error)))
	{
		troubled = true;
		described = GetCurrentTimestamp();
		kfk_report(source, "waiting", "08001", cause(error));

		/* The server's options may name other brokers by now. */
		return ++silent % SILENT_LIMIT != 0;
	}
	described = GetCurrentTimestamp();
	troubled = false;
	trouble[0] = '\0';
	silent = 0;
	if (total != topic_partitions || any_unsettled())
		return false;
	if (!held_told)
		kfk_report(source, "running", NULL, idle_reason(source));
	return true;
}

/* Say, while it is so, that an open transaction holds messages back. */
static void
tell_held(const kfk_source *source)
{
	char	   *held = kfk_held(source, client, partitions, n_partitions);

	if (held != NULL || held_told)
		kfk_report(source, "running", NULL, held ? held : idle_reason(source));
	held_told = held != NULL;
}

/* One turn of the worker's life: open if need be, take, process, wait. */
static void
turn(kfk_source *source, MemoryContext cxt, MemoryContext claims)
{
	static TimestampTz collecting = 0;	/* since when the batch has been waiting */
	TimestampTz now;
	int			before;
	int			fresh;
	bool		reopen;

	if (client == NULL)
	{
		if (!open_client(source, claims))
		{
			if (source->worker < source->workers)
				mr_nap(CHECK_MS);
			else
				mr_wait_latch(CHECK_MS);	/* the supervisor wakes us when we are needed */
			return;
		}
		described = GetCurrentTimestamp();
		if (client == NULL)
			return;
	}

	if (source->control_topic && kfk_share_turn(source, client, partitions, n_partitions))
	{
		close_client();
		return;
	}

	/* In turns with live batches, so that neither waits for all of the other. */
	if (!redrive(source, cxt))
	{
		close_client();
		return;
	}

	/* Also when there is always something to do. */
	if (!look_at_topic(source, PARTITIONS_MS))
	{
		close_client();
		return;
	}

	kfk_follow_group(source, client, partitions, n_partitions);

	/* First silence the bell, then empty what it rings for. */
	kfk_silence(client);
	before = taken.n;
	MR_FAILPOINT("source.before_poll");
	fresh = kfk_take_more(&taken, source, client);
	hear_events(source);		/* after them, see kfk_unsettled() */
	reopen = kfk_sift(&taken, before, source, client, partitions, n_partitions, &troubled);
	if (fresh > 0)
		MR_FAILPOINT("source.after_poll");
	if (reopen)
	{
		close_client();
		mr_nap(CHECK_MS);
		return;
	}
	now = GetCurrentTimestamp();
	if (taken.n > before && before == 0)
		collecting = now;

	/*
	 * A batch goes when nothing more is there, when it is full, or when it has
	 * been collected for long enough.
	 */
	if (taken.n > 0 && (taken.n == before || taken.n >= source->batch_rows || taken.bytes >= source->batch_bytes ||
						now - collecting >= source->batch_ms * INT64CONST(1000)))
	{
		if (process(source, cxt))
			close_client();
		return;
	}
	if (fresh > 0 || taken.n > 0)
		return;

	kfk_check_source(source);
	if (rescaled)
	{
		close_client();
		return;
	}
	kfk_gauge(source, client, partitions, n_partitions);
	if (!redriving && kfk_replay_over(source, partitions, n_partitions))
	{
		close_client();
		kfk_report(source, "stopped", NULL, NULL);
		proc_exit(0);
	}
	if (!look_at_topic(source, troubled || any_unsettled() ? TROUBLED_MS : PARTITIONS_MS))
	{
		close_client();
		return;
	}
	if (!troubled)
		tell_held(source);
	pgstat_report_stat(true);
	wait_for_messages(redriving ? 0 : kfk_share_is_busy() ? 20 : Min(CHECK_MS, source->lease_ms / 3));
}

void
millrace_source_main(Datum arg)
{
	const mr_worker_args *args = mr_worker_begin("millrace source");
	kfk_source	source = {0};
	MemoryContext cxt;
	MemoryContext claims;
	volatile int failures = 0;

	before_shmem_exit(close_at_exit, 0);
	settle_malloc();
	cxt = AllocSetContextCreate(TopMemoryContext, "millrace batch", ALLOCSET_DEFAULT_SIZES);
	claims = AllocSetContextCreate(TopMemoryContext, "millrace partitions", ALLOCSET_DEFAULT_SIZES);
	source.cxt = AllocSetContextCreate(TopMemoryContext, "millrace source", ALLOCSET_DEFAULT_SIZES);
	source.name = MemoryContextStrdup(source.cxt, args->name);
	source.generation = args->config;
	source.worker = args->index;
	source.workers = args->nworkers;
	MemoryContextSwitchTo(cxt);
	kfk_report(&source, "starting", NULL, NULL);

	for (;;)
	{
		PG_TRY();
		{
			MemoryContextReset(cxt);
			MR_FAILPOINT("source.turn");
			turn(&source, cxt, claims);
			failures = 0;
		}
		PG_CATCH();
		{
			/* Nothing of a batch can be half done: begin again from the tables. */
			ErrorData  *error = mr_recover(cxt);

			close_client();
			kfk_share_close();
			kfk_report(&source, "waiting", unpack_sql_state(error->sqlerrcode), error->message);
			if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE && mr_try_begin("evict"))
			{
				kfk_evict(&source);
				mr_commit();
			}
			failures++;
			mr_nap(mr_pause_ms(failures));
		}
		PG_END_TRY();
	}
}
