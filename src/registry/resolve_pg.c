/*
 * resolve_pg.c
 *	  From a reference to a model, and the per-backend cache of both.
 *
 * Versions never change, so they are cached for ever, keyed by name, version
 * and sha256.  What a reference resolves to is cached for a generation: the
 * relcache callback of millrace.models and millrace.model_aliases, whose
 * triggers send the invalidation, starts a new one.
 *
 * A lookup reads the tables with the statement's own snapshot, so that a
 * statement and all its parallel workers agree, and enters the cache only if
 * the newest committed state says the same: an old snapshot must not fill the
 * cache of a new generation.  Under REPEATABLE READ nothing is cached beyond
 * the statement, as the transaction's snapshot is the truth there.
 *
 * Memory: one context per model under the cache's.  Models are freed at the
 * end of a transaction that found them dropped, never earlier.
 */
#include "postgres.h"

#include "registry/model.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "core/core_pg.h"
#include "miscadmin.h"
#include "registry/settings.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define REFERENCE_SIZE (2 * REG_NAME_SIZE + 16)

typedef struct resolved_entry
{
	char		reference[REFERENCE_SIZE];
	uint64		generation;
	reg_model  *model;
} resolved_entry;

static MemoryContext cache_cxt = NULL;
static HTAB *resolved = NULL;
static reg_loaded *all_models = NULL;
static Oid	models_oid = InvalidOid;
static Oid	aliases_oid = InvalidOid;
static uint64 generation = 1;
static uint64 swept_generation = 0;
static uint64 transactions = 1;

void
reg_check_name(const char *name, const char *what)
{
	const char *p = name;

	if (*name != '\0' && strlen(name) < REG_NAME_SIZE)
	{
		while (*p && *p != '@' && *p != ':' && (unsigned char) *p > ' ' && *p != 0x7f)
			p++;
		if (*p == '\0')
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid %s \"%s\"", what, name),
			 errdetail("It must have 1 to %d bytes, and no space, control character, \"@\" or \":\".",
					   REG_NAME_SIZE - 1)));
}

void
reg_parse_reference(const char *text, reg_reference *out)
{
	size_t		len = strcspn(text, "@:");
	const char *rest = text + len;

	memset(out, 0, sizeof(*out));
	if (len == 0 || len >= REG_NAME_SIZE || strlen(rest) >= REG_NAME_SIZE)
		goto bad;
	memcpy(out->name, text, len);
	if (*rest == '@')
	{
		strlcpy(out->alias, rest + 1, REG_NAME_SIZE);
		if (out->alias[0] == '\0' || strpbrk(out->alias, "@:"))
			goto bad;
	}
	else if (*rest == ':')
	{
		int64		version = 0;

		for (rest++; *rest >= '0' && *rest <= '9' && version <= PG_INT32_MAX; rest++)
			version = version * 10 + (*rest - '0');
		if (*rest != '\0' || version < 1 || version > PG_INT32_MAX)
			goto bad;
		out->version = (int) version;
	}
	return;
bad:
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid model reference \"%s\"", text),
			 errhint("A reference is name, name@alias or name:version.")));
}

static void
relation_changed(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == models_oid || relid == aliases_oid)
		generation++;
}

/* Forget models found dropped; nobody has a pointer to them now. */
static void
transaction_ended(XactEvent event, void *arg)
{
	reg_loaded **link = &all_models;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		event != XACT_EVENT_PARALLEL_COMMIT && event != XACT_EVENT_PARALLEL_ABORT &&
		event != XACT_EVENT_PREPARE)
		return;
	transactions++;
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PARALLEL_ABORT)
		reg_stat_failed();
	reg_stat_ask(NULL);
	reg_scratch_end_of_transaction();
	while (*link)
	{
		reg_loaded *loaded = *link;

		if (loaded->backbone && loaded->backbone->loaded->dead)
			loaded->backbone = NULL;
		reg_stat_flush((reg_model *) ((char *) loaded - MAXALIGN(sizeof(reg_model))));
		link = &loaded->next;
	}
	link = &all_models;
	while (*link)
	{
		reg_loaded *loaded = *link;

		if (loaded->dead)
		{
			*link = loaded->next;
			reg_unload(loaded);
			MemoryContextDelete(loaded->cxt);
		}
		else
			link = &loaded->next;
	}
}

void
reg_resolve_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	RegisterXactCallback(transaction_ended, NULL);
}

static void
make_cache(void)
{
	HASHCTL		ctl = {.keysize = REFERENCE_SIZE,.entrysize = sizeof(resolved_entry)};

	if (resolved)
		return;
	if (cache_cxt == NULL)
		cache_cxt = AllocSetContextCreate(TopMemoryContext, "millrace models", ALLOCSET_SMALL_SIZES);
	ctl.hcxt = cache_cxt;
	resolved = hash_create("millrace references", 32, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

/* What a version is beyond its bytes; differs when a rolled-back import used
 * the same number. */
static uint64
spec_hash(const reg_row *row)
{
	uint64		h = hash_bytes_extended((const unsigned char *) row->spec, VARSIZE(row->spec), 0);

	return row->labels ? hash_bytes_extended((const unsigned char *) row->labels, VARSIZE(row->labels), h) : h;
}

/* The cached version of a row, made if new. */
reg_model *
reg_model_of_row(const reg_row *row)
{
	uint64		hash = spec_hash(row);
	MemoryContext cxt;
	MemoryContext old;
	reg_model  *m;
	reg_loaded *loaded;
	reg_kind	kind;
	Datum	   *elements;
	int			n;

	for (loaded = all_models; loaded; loaded = loaded->next)
	{
		m = (reg_model *) ((char *) loaded - MAXALIGN(sizeof(reg_model)));
		if (!loaded->dead && m->version == row->version && loaded->spec_hash == hash &&
			memcmp(m->sha256, row->sha256, sizeof(m->sha256)) == 0 &&
			strcmp(m->name, row->name) == 0)
			return m;
	}
	if (!reg_kind_by_name(row->kind, &kind))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("model \"%s:%d\" is of kind \"%s\", which this library does not know",
						row->name, row->version, row->kind)));

	cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace model", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(cxt);
	m = palloc0(MAXALIGN(sizeof(reg_model)) + sizeof(reg_loaded));
	loaded = (reg_loaded *) ((char *) m + MAXALIGN(sizeof(reg_model)));
	loaded->cxt = cxt;
	loaded->spec_hash = hash;
	m->loaded = loaded;
	m->name = pstrdup(row->name);
	m->version = row->version;
	m->reference = psprintf("%s:%d", row->name, row->version);
	m->reference_text = cstring_to_text(m->reference);
	m->kind = kind;
	memcpy(m->sha256, row->sha256, sizeof(m->sha256));
	m->n_inputs = row->n_inputs;
	m->n_outputs = row->n_outputs;
	if (reg_room_kind_of(kind))
		loaded->parsed = reg_room_kind_of(kind)->parse(row->spec);
	else
		reg_spec_parse(row->spec, &loaded->spec);
	if (kind == REG_ONNX)
		reg_features_class(row->spec, &loaded->spec);
	if (row->labels)
	{
		const char **labels;

		deconstruct_array(row->labels, TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &n);
		labels = palloc(n * sizeof(char *));
		m->label_texts = palloc(n * sizeof(text *));
		for (int i = 0; i < n; i++)
		{
			labels[i] = TextDatumGetCString(elements[i]);
			m->label_texts[i] = cstring_to_text(labels[i]);
		}
		m->labels = labels;
		m->n_labels = n;
	}
	MemoryContextSwitchTo(old);
	make_cache();
	MemoryContextSetParent(cxt, cache_cxt);
	loaded->next = all_models;
	all_models = loaded;
	return m;
}

/* Notice which cached models were dropped since the last look. */
static void
sweep(Snapshot latest)
{
	for (reg_loaded *loaded = all_models; loaded; loaded = loaded->next)
	{
		reg_model  *m = (reg_model *) ((char *) loaded - MAXALIGN(sizeof(reg_model)));
		reg_row		row;

		if (!reg_read_version(m->name, m->version, latest, &row) || row.retired ||
			memcmp(row.sha256, m->sha256, sizeof(row.sha256)) != 0)
			loaded->dead = true;
	}
}

/* Read the row that a reference means under a snapshot.  With missing_ok,
 * false instead of an error. */
static bool
read_reference(const reg_reference *ref, Snapshot snapshot, bool missing_ok, reg_row *row)
{
	bool		found;
	bool		any = false;
	int			version = ref->version;

	if (version == 0)
		version = reg_read_alias(ref->name, ref->alias[0] ? ref->alias : "champion", snapshot);
	if (version == 0 && ref->alias[0])
	{
		if (!missing_ok)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("model \"%s\" has no alias \"%s\"", ref->name, ref->alias)));
		return false;
	}
	found = version ? reg_read_version(ref->name, version, snapshot, row) :
		reg_read_newest(ref->name, snapshot, row, &any);
	if (found && !row->retired)
		return true;
	if (missing_ok)
		return false;
	if (found || any)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 found ? errmsg("model \"%s:%d\" was dropped", ref->name, version) :
				 errmsg("every version of model \"%s\" was dropped", ref->name),
				 found ? errdetail("It was dropped at %s.", timestamptz_to_str(row->retired_at)) : 0));
	if (version)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("model \"%s\" has no version %d", ref->name, version)));
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("model \"%s\" does not exist", ref->name),
			 strcmp(ref->name, reg_text_encoder) == 0 ?
			 errhint("\"make models\" in Millrace's sources fetches the usual encoder and imports it as \"minilm\".") :
			 strcmp(ref->name, reg_detector) == 0 ?
			 errhint("No detector comes with Millrace: millrace.import_model() imports one as ONNX, and \"millrace.detector\" names it.") :
			 strcmp(ref->name, reg_descriptor_model) == 0 || strcmp(ref->name, reg_classifier) == 0 ?
			 errhint("SELECT millrace.install_models() registers the models that come with Millrace.") :
			 errhint("SELECT name, version FROM millrace.models lists the models.")));
	return false;
}

static const char *
default_reference(reg_task task)
{
	const char *reference = reg_descriptor_model;
	const char *setting = "millrace.descriptor_model";

	if (task == REG_CLASSIFY)
	{
		reference = reg_classifier;
		setting = "millrace.classifier";
	}
	else if (task == REG_ENCODE)
	{
		reference = reg_text_encoder;
		setting = "millrace.text_encoder";
	}
	else if (task == REG_DETECT)
	{
		reference = reg_detector;
		setting = "millrace.detector";
	}
	if (reference[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("no model is named and \"%s\" is empty", setting)));
	return reference;
}

static reg_model *
lookup(const char *reference)
{
	reg_reference ref;
	MemoryContext temp;
	MemoryContext old;
	Snapshot	latest;
	reg_row		row;
	reg_row		newest;
	reg_model  *model;
	uint64		started;
	bool		cacheable;

	reg_parse_reference(reference, &ref);
	make_cache();
	temp = AllocSetContextCreate(CurrentMemoryContext, "millrace lookup", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(temp);
	models_oid = reg_models_oid();
	aliases_oid = reg_aliases_oid();
	started = generation;
	latest = RegisterSnapshot(GetCatalogSnapshot(models_oid));
	if (swept_generation != generation)
	{
		sweep(latest);
		swept_generation = started;
	}
	if (ActiveSnapshotSet())
	{
		read_reference(&ref, GetActiveSnapshot(), false, &row);
		cacheable = !IsolationUsesXactSnapshot() &&
			read_reference(&ref, latest, true, &newest) &&
			newest.version == row.version &&
			memcmp(newest.sha256, row.sha256, sizeof(row.sha256)) == 0;
	}
	else
	{
		read_reference(&ref, latest, false, &row);
		cacheable = true;
	}
	model = reg_model_of_row(&row);
	UnregisterSnapshot(latest);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(temp);
	if (cacheable)
	{
		resolved_entry *entry = hash_search(resolved, reference, HASH_ENTER, NULL);

		entry->generation = started;
		entry->model = model;
	}
	return model;
}

static const reg_model *
resolve(const char *reference)
{
	resolved_entry *entry;

	/* A statement without tables, inside a transaction, has not looked yet. */
	AcceptInvalidationMessages();
	if (resolved && strlen(reference) < REFERENCE_SIZE && !IsolationUsesXactSnapshot())
	{
		entry = hash_search(resolved, reference, HASH_FIND, NULL);
		if (entry && entry->generation == generation && !entry->model->loaded->dead)
			return entry->model;
	}
	return lookup(reference);
}

const reg_model *
reg_resolve(const char *reference, reg_task task)
{
	const reg_model *m = resolve(reference ? reference : default_reference(task));

	reg_check_task(m, task);
	return m;
}

/* What a call site remembers; enough of the snapshot to know it again. */
typedef struct call_site
{
	const reg_model *model;
	uint64		transaction;
	TransactionId xmin;
	TransactionId xmax;
	uint32		xcnt;
	CommandId	curcid;
	char		reference[REFERENCE_SIZE];
} call_site;

static bool
same_snapshot(const call_site *site)
{
	Snapshot	s = ActiveSnapshotSet() ? GetActiveSnapshot() : NULL;

	return s && s->xmin == site->xmin && s->xmax == site->xmax &&
		s->xcnt == site->xcnt && s->curcid == site->curcid;
}

const reg_model *
reg_resolve_site(void **memory, MemoryContext cxt, text *given, reg_task task)
{
	call_site  *site = *memory;
	const char *text = given ? VARDATA_ANY(given) : default_reference(task);
	size_t		len = given ? VARSIZE_ANY_EXHDR(given) : strlen(text);
	Snapshot	s;

	/* The same reference under the same snapshot: the same statement, so the
	 * same version whatever happened meanwhile. */
	if (site && site->transaction == transactions && same_snapshot(site) &&
		strlen(site->reference) == len && memcmp(site->reference, text, len) == 0)
		return site->model;

	if (site == NULL)
		*memory = site = MemoryContextAllocZero(cxt, sizeof(call_site));
	site->transaction = 0;		/* in case of an error below */
	if (len >= REFERENCE_SIZE || len == 0)
	{
		reg_reference ref;

		reg_parse_reference(pnstrdup(text, len), &ref);
	}
	memcpy(site->reference, text, len);
	site->reference[len] = '\0';
	site->model = reg_resolve(site->reference, task);
	s = ActiveSnapshotSet() ? GetActiveSnapshot() : NULL;
	site->xmin = s ? s->xmin : InvalidTransactionId;
	site->xmax = s ? s->xmax : InvalidTransactionId;
	site->xcnt = s ? s->xcnt : 0;
	site->curcid = s ? s->curcid : InvalidCommandId;
	site->transaction = transactions;
	return site->model;
}

const reg_model *
reg_resolve_arg(FunctionCallInfo fcinfo, int argno, reg_task task)
{
	text	   *given = argno >= fcinfo->nargs || PG_ARGISNULL(argno) ? NULL : PG_GETARG_TEXT_PP(argno);

	return reg_resolve_site(&fcinfo->flinfo->fn_extra, fcinfo->flinfo->fn_mcxt, given, task);
}
