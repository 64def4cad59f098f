/*
 * io_main_pg.c
 *	  The I/O worker of a database's gateway: HTTP in, requests to executors, their responses out.
 *
 * A turn of the loop: what executors answered is taken, what waits is given to those that are idle, connections
 * and libmicrohttpd have their turn, and then all of it is waited for at once.  Callbacks of libmicrohttpd raise no
 * ERROR; everything else may, and an ERROR ends the turn, at most with one request.
 *
 * Memory: the process's state in TopMemoryContext and malloc'd, the rest in a context per turn.  Locks: none between
 * turns; the extension's only while routes are read.
 */
#include "postgres.h"

#include "gateway/worker/io_count.h"
#include "gateway/worker/io_pg.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/compat.h"
#include "core/failpoint.h"
#include "core/process_pg.h"

#define READ_MS 5000			/* routes and tokens are read so often, whether they changed or not */
#define AGAIN_MS 1000			/* the same, where it failed */
#define LINGER_MS 20			/* between looks at connections that only end */
#define LOOK_MS 250				/* at deadlines, while there are connections */

extern PGDLLEXPORT void millrace_gateway_main(Datum arg);

static int64 read_at = 0;		/* when routes are to be read */
static uint64 read_changes;

/* ---- settings */

static int
setting(const char *name)
{
	const char *text = GetConfigOption(psprintf("millrace.%s", name), false, false);

	return atoi(text);
}

static void
read_settings(void)
{
	const char *wrong;
	const char *text;

	/* defines them, and checks what was given */
	load_file("$libdir/millrace", false);
	gwi_set.connections = setting("http_max_connections");
	gwi_set.per_address = setting("http_max_connections_per_address");
	gwi_set.queue = setting("http_queue");
	gwi_set.max_body = setting("http_max_body") * INT64CONST(1024);
	gwi_set.max_response = Min(setting("http_max_response") * INT64CONST(1024), PG_INT32_MAX);
	gwi_set.timeout_ms = setting("http_timeout");
	gwi_set.header_timeout_ms = setting("http_header_timeout");
	gwi_set.idle_timeout_ms = setting("http_idle_timeout");
	gwi_set.streams = setting("http_max_streams");
	strlcpy(gwi_set.origin, GetConfigOption("millrace.http_allow_origin", false, false), sizeof(gwi_set.origin));
	text = GetConfigOption("millrace.http_tls_certificate", false, false);
	gwi_set.tls = text && *text;
	gwi_set.listens = gw_listen_parse(GetConfigOption("millrace.http_listen", false, false), gwi_set.listen, &wrong);
	if (gwi_set.listens < 0)
		gwi_not_now("millrace.http_listen: %s", wrong);
	if (gwi_set.listens == 0)
		proc_exit(0);
}

/* ---- libmicrohttpd */

/* It found its own state to be wrong.  This worker ends, and nothing else. */
static void
on_panic(const char *what)
{
	ereport(LOG, (errmsg("gateway: libmicrohttpd: %s", what)));
	proc_exit(1);
}

static void
open_http(void)
{
	char	   *certificate = NULL;
	char	   *key = NULL;
	const char *wrong;

	if (gwi_set.tls)
	{
		certificate = gwi_read_file("millrace.http_tls_certificate", false);
		key = gwi_read_file("millrace.http_tls_key", true);
	}
	wrong = gwi_http_open(certificate, key, on_panic);
	if (key)
		explicit_bzero(key, strlen(key));
	if (wrong)
		gwi_not_now("could not begin to speak HTTP%s: %s", gwi_set.tls ? " over TLS" : "", wrong);
}

/* ---- turns */

static void
read_book(void)
{
	uint64		changes = mr_change_count(MR_CHANGE_GATEWAY, MyDatabaseId);

	if (changes == read_changes && gwi_now_us() < read_at)
		return;
	read_at = gwi_now_us() + AGAIN_MS * INT64CONST(1000);	/* should it fail */
	read_changes = changes;
	if (gwi_book_read())
		read_at = gwi_now_us() + READ_MS * INT64CONST(1000);
}

static void
wait_for_more(void)
{
	static WaitEventSet *set = NULL;
	WaitEvent	event;
	int64		now = gwi_now_us();
	int64		until = Min(read_at, gwi_boxes_due());
	int			http_ms = gwi_http_wait_ms();

	if (set == NULL)
	{
		set = CompatCreateWaitEventSet(3);
		AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
		AddWaitEventToSet(set, WL_SOCKET_READABLE, gwi_listen_fd(), NULL, NULL);
	}
	if (gwi_n_lingering > 0)
		until = Min(until, now + LINGER_MS * INT64CONST(1000));
	if (gwi_n_conns > 0)
		until = Min(until, now + LOOK_MS * INT64CONST(1000));
	if (http_ms >= 0)
		until = Min(until, now + http_ms * INT64CONST(1000));
	if (WaitEventSetWait(set, until > now ? (long) ((until - now) / 1000 + 1) : 0, &event, 1, PG_WAIT_EXTENSION) == 1 &&
		event.events & WL_LATCH_SET)
		ResetLatch(MyLatch);
}

static void
turn(void)
{
	static int64 looked = 0;
	int64		now;

	mr_answer_server();
	MR_FAILPOINT("gateway.turn");
	read_book();
	gwi_boxes_take();
	gwi_boxes_give();
	gwi_listen_take();
	gwi_http_run();
	gwi_boxes_give();			/* what came just now */
	now = gwi_now_us();
	gwi_boxes_look(now);
	if (gwi_n_lingering > 0)
		gwi_look_lingering(now);
	if (now - looked > LOOK_MS * INT64CONST(1000))
	{
		looked = now;
		gwi_look_deadlines(now);
		gwi_count_events();
		pgstat_report_stat(false);
	}
	wait_for_more();
}

#define N_STEPS 5

/* One step of the beginning, in this order: nobody is let in before it is known where to.  False: not yet; ERROR likewise. */
static bool
begin(int step)
{
	switch (step)
	{
		case 0:
			StartTransactionCommand();
			read_settings();
			CommitTransactionCommand();
			return true;
		case 1:
			open_http();
			return true;
		case 2:
			gwi_boxes_open();
			gwi_count_open();
			return true;
		case 3:
			read_book();
			return gwi_current != NULL;
		default:
			gwi_listen_open();
			return true;
	}
}

void
millrace_gateway_main(Datum arg)
{
	MemoryContext cxt;
	volatile int failures = 0;
	volatile int step = 0;

	(void) mr_worker_begin(MR_GATEWAY_TYPE);
	cxt = AllocSetContextCreate(TopMemoryContext, "millrace turn", ALLOCSET_DEFAULT_SIZES);
	/* whatever it cannot begin for is told, and tried again */
	while (step < N_STEPS)
	{
		PG_TRY();
		{
			MemoryContextSwitchTo(cxt);
			MemoryContextReset(cxt);
			if (begin(step))
				step++;
			else
				mr_nap(200);
		}
		PG_CATCH();
		{
			mr_worker_state("waiting", mr_recover(cxt)->message);
			LWLockReleaseAll();
			mr_nap(mr_pause_ms(++failures));
		}
		PG_END_TRY();
	}
	if (failures > 0)
		mr_worker_state("running", NULL);
	failures = 0;
	for (;;)
	{
		PG_TRY();
		{
			MemoryContextSwitchTo(cxt);
			MemoryContextReset(cxt);
			turn();
			failures = 0;
		}
		PG_CATCH();
		{
			(void) mr_recover(cxt);
			LWLockReleaseAll(); /* of the area; no transaction's end did so */
			gwi_boxes_failed();
			failures++;
			if (failures > 5)
				mr_wait_latch(mr_pause_ms(failures - 5));
		}
		PG_END_TRY();
	}
}
