/*
 * memory_pg.c
 *	  The work memory of a backend: one block for the runs of all its models.
 *
 * A run starts with nothing and leaves nothing in the block, so it grows to the
 * largest model's need and is shared.  It is a mapping of its own, not palloc's:
 * when the session has been idle for a while its pages go back to the system,
 * by madvise() from the timeout's signal handler, while the addresses stay.
 * Nobody may hold a pointer into it beyond the transaction.
 */
#include "postgres.h"

#include <signal.h>
#include <sys/mman.h>

#include "miscadmin.h"
#include "nn/nn_pg.h"
#include "registry/model.h"
#include "storage/ipc.h"
#include "utils/timeout.h"

#define IDLE_MS 2000
#define HUGE_PAGE ((size_t) 2 << 20)
#define SMALL ((size_t) 1 << 20)	/* not worth a timer */

static void *scratch = NULL;
static size_t scratch_size = 0;
static size_t scratch_asked = 0;
static volatile sig_atomic_t scratch_busy = false;	/* used in this transaction */
static TimeoutId idle_timeout = MAX_TIMEOUTS;

/* Signal handler. */
static void
session_is_idle(void)
{
	if (scratch && !scratch_busy)
		(void) madvise(scratch, scratch_size, MADV_DONTNEED);
}

/*
 * Zero pages, huge ones where they fit whole: the first touch of 8 MB costs
 * 2 ms in small pages.  Not beyond size: private memory is what sessions cost.
 */
static void *
map_memory(size_t size)
{
	size_t		whole = size / HUGE_PAGE * HUGE_PAGE;
	size_t		room = whole ? size + HUGE_PAGE : size;
	char	   *map = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char	   *start;

	if (map == MAP_FAILED || whole == 0)
		return map;
	start = (char *) TYPEALIGN(HUGE_PAGE, map);
	if (start > map)
		(void) munmap(map, start - map);
	if (map + room > start + size)
		(void) munmap(start + size, map + room - (start + size));
#ifdef MADV_HUGEPAGE
	(void) madvise(start, whole, MADV_HUGEPAGE);
#endif
	return start;
}

void *
reg_scratch(size_t size)
{
	size_t		limit = nn_pg_options().max_memory;

	if (size > limit)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a model needs %zu bytes to run, millrace.max_model_memory allows %zu", size, limit)));
	scratch_busy = true;
	scratch_asked = size;
	if (size > scratch_size)
	{
		void	   *old = scratch;

		size = TYPEALIGN(64 * 1024, size);
		scratch = NULL;			/* first: the handler must not touch what is gone */
		if (old)
			(void) munmap(old, scratch_size);
		scratch_size = 0;
		old = map_memory(size);
		if (old == MAP_FAILED)
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory"),
					 errdetail("A model needs %zu bytes to run.", size)));
		scratch_size = size;
		scratch = old;
	}
	return scratch;
}

size_t
reg_scratch_taken(void)
{
	size_t		size = scratch_asked;

	scratch_asked = 0;
	return size;
}

void
reg_scratch_end_of_transaction(void)
{
	scratch_asked = 0;
	if (!scratch_busy)
		return;
	scratch_busy = false;
	if (scratch_size <= SMALL || MyBackendType != B_BACKEND || proc_exit_inprogress)
		return;
	if (idle_timeout == MAX_TIMEOUTS)
		idle_timeout = RegisterTimeout(USER_TIMEOUT, session_is_idle);
	enable_timeout_after(idle_timeout, IDLE_MS);
}
