/*
 * kind_cache_pg.c
 *	  Rows of millrace.task_kinds, kept by each process until they change.
 *
 * A trigger on the table invalidates its relcache entry, which at commit tells
 * every process.  A row read by an older snapshot than that (REPEATABLE READ)
 * could outlive the news of its end, so such transactions keep nothing.
 *
 * Memory: a context of its own.  Locks: none beyond those of a SELECT.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "core/spi_pg.h"
#include "task/submit.h"

PG_FUNCTION_INFO_V1(millrace_task_kinds_changed);

static HTAB *kinds = NULL;		/* of tsk_kind, by name */
static MemoryContext kinds_cxt = NULL;
static Oid	kinds_table;
static bool stale = false;

/* Statement trigger on millrace.task_kinds. */
Datum
millrace_task_kinds_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("millrace.task_kinds_changed() must be called as a trigger")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	PG_RETURN_POINTER(NULL);
}

static void
invalidate(Datum arg, Oid table)
{
	if (table == kinds_table || !OidIsValid(table))
		stale = true;
}

/* An empty cache. */
static void
begin_cache(void)
{
	HASHCTL		ctl = {.keysize = sizeof(((tsk_kind *) NULL)->name), .entrysize = sizeof(tsk_kind)};

	if (kinds_cxt == NULL)
	{
		kinds_cxt = AllocSetContextCreate(CacheMemoryContext, "millrace kinds of tasks", ALLOCSET_SMALL_SIZES);
		CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
	}
	kinds = NULL;
	MemoryContextReset(kinds_cxt);
	kinds_table = get_relname_relid("task_kinds", get_namespace_oid("millrace", false));
	stale = false;				/* from here on */
	ctl.hcxt = kinds_cxt;
	kinds = hash_create("millrace kinds of tasks", 16, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

/* The row, in the current context. */
static tsk_kind *
read_kind(const char *name)
{
	static SPIPlanPtr plan = NULL;
	static const Oid type = TEXTOID;
	MemoryContext caller = CurrentMemoryContext;
	Datum		arg = CStringGetTextDatum(name);
	tsk_kind   *k = palloc0(sizeof(*k));
	mr_owner_save save;
	HeapTuple	row;
	TupleDesc	desc;
	bool		null;

	mr_spi_begin(&save);
	if (mr_run(&plan, "SELECT base, function, coalesce(octet_length(prompt), 0), options FROM millrace.task_kinds WHERE kind = $1", 1, &type, &arg) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("kind of tasks \"%s\" does not exist", name),
				 errhint("SELECT kind FROM millrace.task_kinds lists them; millrace.create_task_kind() adds one.")));
	row = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	MemoryContextSwitchTo(caller);
	strlcpy(k->name, name, sizeof(k->name));
	k->base = SPI_getvalue(row, desc, 1);
	k->function = SPI_getvalue(row, desc, 2);
	k->prompt = DatumGetInt32(SPI_getbinval(row, desc, 3, &null));
	k->options = (Jsonb *) PG_DETOAST_DATUM_COPY(SPI_getbinval(row, desc, 4, &null));
	mr_spi_end(&save);
	return k;
}

const tsk_kind *
tsk_find_kind(const char *name)
{
	tsk_kind   *k;
	MemoryContext old;

	if (kinds == NULL || stale)
		begin_cache();
	k = strlen(name) < sizeof(k->name) ? hash_search(kinds, name, HASH_FIND, NULL) : NULL;
	if (k)
		return k;
	k = read_kind(name);
	if (stale || IsolationUsesXactSnapshot() || strlen(name) >= sizeof(k->name))
		return k;
	old = MemoryContextSwitchTo(kinds_cxt);
	{
		tsk_kind	kept = {.base = pstrdup(k->base), .function = k->function ? pstrdup(k->function) : NULL, .prompt = k->prompt,
		.options = memcpy(palloc(VARSIZE(k->options)), k->options, VARSIZE(k->options))};

		strlcpy(kept.name, name, sizeof(kept.name));
		*(tsk_kind *) hash_search(kinds, name, HASH_ENTER, NULL) = kept;
	}
	MemoryContextSwitchTo(old);
	return k;
}
