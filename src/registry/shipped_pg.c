/*
 * shipped_pg.c
 *	  install_models(): the models that come with Millrace, from their files.
 *
 * $sharedir/extension/millrace_models/MANIFEST.json lists them (format: the
 * room's README.md), parents before children.  Idempotent by name and sha256;
 * aliases are never touched, and a name that a user has taken is left alone.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "registry/write.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(millrace_install_models);

#define MAX_SHIPPED 256
#define MANIFEST "MANIFEST.json"

/* An entry of the manifest and the version it has in this database. */
typedef struct shipped
{
	char	   *name;
	uint8		sha256[32];
	int			version;		/* 0: not there */
	const char *action;
} shipped;

static void
bad_manifest(const char *model, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONFIG_FILE_ERROR),
			 errmsg("%s of the shipped models: model \"%s\": %s", MANIFEST, model, what)));
}

/* A whole file of the models' directory; zero-terminated. */
static char *
read_shipped(const char *file, size_t *size)
{
	char		share[MAXPGPATH];
	char		path[MAXPGPATH];
	struct stat st;
	FILE	   *f;
	char	   *data;

	if (file[0] == '/' || strstr(file, ".."))
		bad_manifest(file, "a path must stay below the manifest");
	get_share_path(my_exec_path, share);
	snprintf(path, sizeof(path), "%s/extension/millrace_models/%s", share, file);
	f = AllocateFile(path, PG_BINARY_R);
	if (f == NULL || fstat(fileno(f), &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path),
				 strcmp(file, MANIFEST) == 0 ?
				 errhint("The models are installed with the extension: run \"make install\".") : 0));
	data = MemoryContextAllocHuge(CurrentMemoryContext, st.st_size + 1);
	if (fread(data, 1, st.st_size, f) != (size_t) st.st_size)
		ereport(ERROR,
				(errcode(ERRCODE_IO_ERROR),
				 errmsg("could not read file \"%s\"", path)));
	data[st.st_size] = '\0';
	FreeFile(f);
	*size = st.st_size;
	return data;
}

static Jsonb *
read_json(const char *file)
{
	size_t		size;
	char	   *text = read_shipped(file, &size);

	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

/* A member that is an object, as a Jsonb; NULL if absent. */
static Jsonb *
object_member(JsonbContainer *entry, const char *key, const char *model)
{
	JsonbValue	v;

	if (getKeyJsonValueFromContainer(entry, key, strlen(key), &v) == NULL || v.type == jbvNull)
		return NULL;
	if (v.type != jbvBinary || !JsonContainerIsObject(v.val.binary.data))
		bad_manifest(model, psprintf("\"%s\" must be an object", key));
	return JsonbValueToJsonb(&v);
}

static const shipped *
find_entry(const shipped *list, int n, const char *name, const char *model)
{
	for (int i = 0; i < n; i++)
		if (strcmp(list[i].name, name) == 0)
			return &list[i];
	bad_manifest(model, psprintf("it refers to \"%s\", which is not listed before it", name));
	return NULL;
}

/*
 * What is in the database under the entry's name: the version with its bytes
 * (and whether it was dropped), and whether the name is somebody else's.
 */
static void
look_up(const shipped *s, int *version, bool *dropped, bool *taken)
{
	static const Oid types[] = {TEXTOID, BYTEAOID};
	Datum		values[] = {CStringGetTextDatum(s->name), PointerGetDatum(reg_bytea(s->sha256, 32))};
	bool		isnull;

	reg_execute("SELECT max(version) FILTER (WHERE sha256 = $2 AND origin = 'shipped'), "
				"COALESCE(bool_or(origin <> 'shipped'), false), "
				"COALESCE(bool_and(retired_at IS NOT NULL) FILTER (WHERE sha256 = $2 AND origin = 'shipped'), false) "
				"FROM millrace.models WHERE name = $1", 2, types, values, NULL, SPI_OK_SELECT);
	*version = DatumGetInt32(reg_result(0, 1, &isnull));
	if (isnull)
		*version = 0;
	*taken = DatumGetBool(reg_result(0, 2, &isnull));
	*dropped = DatumGetBool(reg_result(0, 3, &isnull));
}

static void
install_entry(JsonbContainer *entry, shipped *list, int n, bool include_dropped)
{
	shipped    *s = &list[n];
	char	   *hex;
	char	   *file;
	char	   *name;
	char	   *parent;
	char	   *spec_file;
	bool		dropped;
	bool		taken;
	reg_new		new = {.origin = "shipped"};
	reg_parent	parents[2];
	uint8		sha[32];
	reg_write	w;

	name = reg_jsonb_text(entry, "name", "model.");
	file = reg_jsonb_text(entry, "file", "model.");
	hex = reg_jsonb_text(entry, "sha256", "model.");
	if (name == NULL || file == NULL || hex == NULL || strlen(hex) != 64)
		bad_manifest(name ? name : "?", "it needs \"name\", \"file\" and \"sha256\"");
	(void) hex_decode(hex, 64, (char *) s->sha256);
	s->name = name;

	reg_check_name(name, "model name");
	reg_write_begin(&w, "install_models()");
	reg_lock_name(name);
	look_up(s, &s->version, &dropped, &taken);
	reg_write_end(&w);
	if (s->version && !dropped)
	{
		s->action = "present";
		return;
	}
	if (s->version && !include_dropped)
	{
		s->action = "dropped before, left so";
		return;
	}
	if (taken && s->version == 0)
	{
		s->action = "skipped: the name is in use";
		return;
	}

	new.name = name;
	new.bytes = read_shipped(file, &new.size);
	reg_sha256(new.bytes, new.size, sha);
	if (memcmp(sha, s->sha256, sizeof(sha)) != 0)
		bad_manifest(name, psprintf("file \"%s\" does not have its sha256", file));
	spec_file = reg_jsonb_text(entry, "spec_file", "model.");
	new.spec = spec_file ? read_json(spec_file) : object_member(entry, "spec", name);
	new.metrics = object_member(entry, "metrics", name);
	new.training = object_member(entry, "training", name);
	if ((parent = reg_jsonb_text(entry, "backbone", "model.")))
	{
		const shipped *p = find_entry(list, n, parent, name);

		if (p->version == 0)
		{
			s->action = psprintf("skipped: needs \"%s\"", parent);
			return;
		}
		if (new.spec == NULL)
			new.spec = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
		new.spec = reg_jsonb_set_text(new.spec, "backbone", psprintf("%s:%d", p->name, p->version));
	}
	if ((parent = reg_jsonb_text(entry, "descriptors_of", "model.")))
	{
		const shipped *p = find_entry(list, n, parent, name);

		if (p->version)
		{
			parents[new.n_parents++] = (reg_parent) {p->name, p->version, "descriptors_of"};
			new.parents = parents;
		}
	}
	s->version = reg_register(&new);
	/* The next entry may name this one as its parent: let our snapshot see it. */
	CommandCounterIncrement();
	UpdateActiveSnapshotCommandId();
	s->action = "installed";
}

/* millrace.install_models(include_dropped boolean) -> table (model text, action text) */
Datum
millrace_install_models(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		include_dropped = !PG_ARGISNULL(0) && PG_GETARG_BOOL(0);
	Jsonb	   *manifest;
	JsonbValue	models;
	shipped    *list;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	manifest = read_json(MANIFEST);
	if (!JB_ROOT_IS_OBJECT(manifest) ||
		getKeyJsonValueFromContainer(&manifest->root, "models", 6, &models) == NULL ||
		models.type != jbvBinary || !JsonContainerIsArray(models.val.binary.data))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("%s of the shipped models has no array \"models\"", MANIFEST)));
	n = JsonContainerSize(models.val.binary.data);
	if (n > MAX_SHIPPED)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("%s of the shipped models lists more than %d", MANIFEST, MAX_SHIPPED)));
	list = palloc0(Max(n, 1) * sizeof(shipped));
	PushCopiedSnapshot(GetActiveSnapshot());
	for (int i = 0; i < n; i++)
	{
		JsonbValue *entry = getIthJsonbValueFromContainer(models.val.binary.data, i);
		Datum		values[2];
		bool		nulls[2] = {false};

		if (entry->type != jbvBinary || !JsonContainerIsObject(entry->val.binary.data))
			bad_manifest("?", "it must be an object");
		install_entry(entry->val.binary.data, list, i, include_dropped);
		values[0] = CStringGetTextDatum(list[i].version ?
										psprintf("%s:%d", list[i].name, list[i].version) : list[i].name);
		values[1] = CStringGetTextDatum(list[i].action);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	PopActiveSnapshot();
	return (Datum) 0;
}
