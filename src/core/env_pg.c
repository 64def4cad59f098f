/*
 * env_pg.c
 *	  The cores' environment inside the server, and their errors as ereport().
 *
 * Memory belongs to the MemoryContext given by the caller, who resets or
 * deletes it: an ERROR or a cancel at any point leaks nothing.
 */
#include "postgres.h"

#include "core/core_pg.h"
#include "miscadmin.h"
#include "utils/errcodes.h"
#include "utils/memutils.h"

/*
 * palloc aligns to 8 or 16 bytes, kernels want 64: the chunk's own address is
 * kept in the word before the aligned one.
 */
static void *
pg_env_alloc(void *arg, size_t size)
{
	char	   *raw;
	char	   *aligned;

	if (size > MaxAllocHugeSize - 128)
		return NULL;
	raw = MemoryContextAllocExtended((MemoryContext) arg, size + 64 + sizeof(void *),
									 MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (raw == NULL)
		return NULL;
	aligned = (char *) TYPEALIGN(64, (uintptr_t) raw + sizeof(void *));
	((void **) aligned)[-1] = raw;
	return aligned;
}

static void
pg_env_release(void *arg, void *ptr)
{
	(void) arg;
	if (ptr)
		pfree(((void **) ptr)[-1]);
}

static bool
pg_env_interrupted(void *arg)
{
	(void) arg;
	return InterruptPending && (ProcDiePending || QueryCancelPending) &&
		InterruptHoldoffCount == 0 && CritSectionCount == 0;
}

mr_env
mr_pg_env(MemoryContext cxt)
{
	mr_env		env = {pg_env_alloc, pg_env_release, pg_env_interrupted,
	cxt ? cxt : CurrentMemoryContext};

	return env;
}

int
mr_pg_sqlstate(mr_code code)
{
	switch (code)
	{
		case MR_INVALID:
			return ERRCODE_INVALID_PARAMETER_VALUE;
		case MR_LIMIT:
			return ERRCODE_PROGRAM_LIMIT_EXCEEDED;
		case MR_UNSUPPORTED:
			return ERRCODE_FEATURE_NOT_SUPPORTED;
		case MR_NOMEM:
			return ERRCODE_OUT_OF_MEMORY;
		case MR_CANCELED:
			return ERRCODE_QUERY_CANCELED;
		case MR_CORRUPT:
			return ERRCODE_DATA_CORRUPTED;
		case MR_IO:
			return ERRCODE_IO_ERROR;
		case MR_OK:
		case MR_INTERNAL:
			break;
	}
	return ERRCODE_INTERNAL_ERROR;
}

void
mr_pg_raise(const mr_status *st)
{
	/* The interrupt's own error (cancel, timeout, termination) comes first. */
	if (st->code == MR_CANCELED)
		CHECK_FOR_INTERRUPTS();
	ereport(ERROR,
			(errcode(mr_pg_sqlstate(st->code)),
			 errmsg_internal("%s", st->message),
			 st->detail[0] ? errdetail_internal("%s", st->detail) : 0,
			 st->hint[0] ? errhint("%s", st->hint) : 0));
	pg_unreachable();
}
