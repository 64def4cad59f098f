/*
 * call_look_pg.c
 *	  What the tables say while calls run: new queues, altered servers, tasks
 *	  that somebody cancelled.
 *
 * Memory: providers in TopMemoryContext, one for each queue the process has
 * seen.  Locks: none between transactions.
 */
#include "postgres.h"

#include "task/worker/call.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "core/process_pg.h"
#include "core/spi_pg.h"

#define READ_MS 60000			/* between looks at servers that nobody said were altered */

static tsk_provider **providers = NULL;
static int	n_providers = 0;

int
tsk_providers(tsk_provider ***out)
{
	*out = providers;
	return n_providers;
}

static tsk_provider *
make_provider(tsk_task_queue *queue)
{
	tsk_provider *p = MemoryContextAllocZero(TopMemoryContext, sizeof(*p));

	p->queue = queue;
	p->cxt = AllocSetContextCreate(TopMemoryContext, "millrace provider", ALLOCSET_SMALL_SIZES);
	return p;
}

/* In a transaction: those of our queues, new ones included. */
static void
find_providers(const tsk_lane *lane)
{
	tsk_task_queue **queues;
	int			n = tsk_lane_queues(lane, &queues);

	if (n > n_providers)
	{
		Size		size = sizeof(*providers) * (Size) n;

		providers = providers ? repalloc(providers, size) : MemoryContextAlloc(TopMemoryContext, size);
	}
	for (int i = 0; i < n; i++)
	{
		if (queues[i]->subject == NULL)
		{
			queues[i]->subject = make_provider(queues[i]);
			tsk_load_provider(queues[i]->subject);
		}
		providers[i] = queues[i]->subject;
	}
	n_providers = n;
}

/* Servers that may be other than they were read: altered, or all of them once a minute, for files of secrets say nothing. */
static void
read_again(void)
{
	static TimestampTz last = 0;
	TimestampTz now = GetCurrentTimestamp();
	bool		all = tsk_providers_stale() || now - last > READ_MS * INT64CONST(1000);

	for (int i = 0; i < n_providers; i++)
	{
		tsk_provider *p = providers[i];

		if (all || !OidIsValid(p->server) || p->was_paused != p->queue->paused)
			tsk_load_provider(p);
		p->was_paused = p->queue->paused;
	}
	last = all ? now : last;
}

void
tsk_refresh_providers(void)
{
	if (!tsk_providers_stale())
		return;
	mr_begin("read servers");
	for (int i = 0; i < n_providers; i++)
		tsk_load_provider(providers[i]);
	mr_commit();
}

/* Mark those of running tasks that cancel_task() was called for. */
static void
find_cancelled(void)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDARRAYOID};
	Datum	   *ids = palloc(sizeof(Datum) * (Size) tsk_n_running);
	Datum		args[1];
	mr_owner_save save;
	dlist_iter	it;
	int			n = 0;

	dlist_foreach(it, &tsk_running)
		ids[n++] = UUIDPGetDatum(&dlist_container(tsk_task, node, it.cur)->id);
	args[0] = PointerGetDatum(construct_array(ids, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
	mr_spi_begin(&save);
	mr_prepare(&plan, "SELECT id FROM millrace.task_cancels WHERE id = ANY ($1)", lengthof(types), types);
	SPI_execute_plan(plan, args, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		null;
		pg_uuid_t  *id = DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &null));

		dlist_foreach(it, &tsk_running)
		{
			tsk_task   *task = dlist_container(tsk_task, node, it.cur);

			if (memcmp(&task->id, id, sizeof(*id)) == 0)
				task->cancelled = true;
		}
	}
	mr_spi_end(&save);
}

void
tsk_look(const tsk_lane *lane)
{
	mr_begin("look at queues");
	find_providers(lane);
	read_again();
	if (tsk_n_running > 0)
		find_cancelled();
	mr_commit();
}
