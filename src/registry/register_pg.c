/*
 * register_pg.c
 *	  New versions: bytes checked, specification understood, rows written.
 *
 * Everything that can be wrong with a model is found here, not at the first
 * inference: the bytes are parsed, the specification is held against them, and
 * the model is compiled for this machine before the function returns.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "core/mapfile_pg.h"
#include "miscadmin.h"
#include "nn/nn_pg.h"
#include "registry/write.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define CHUNK_SIZE ((size_t) 16 << 20)
#define MAX_PARENTS 16

static const char learner_magic[8] = "MRLEARN";

/* What the bytes are. */
typedef struct found
{
	reg_kind	kind;
	int			n_inputs;
	int			n_outputs;
} found;

static int
checked_count(int64 n, const char *tensor)
{
	if (n < 1 || n > PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("tensor \"%s\" has " INT64_FORMAT " elements", tensor, n)));
	return (int) n;
}

/* An ONNX file: the answer is spec.output, else the first output. */
static void
check_network(const reg_new *new, reg_spec *spec, int n_labels, found *f)
{
	nn_options	opt = nn_pg_options();
	mr_env		env = mr_pg_env(NULL);
	nn_summary	s;
	mr_status	st;
	int			output = 0;
	bool		labels_fit = n_labels == 0;

	opt.n_classes = spec->n_classes;
	opt.classes = spec->classes;
	if (nn_check(&env, new->bytes, new->size, &opt, &s, &st) != MR_OK)
		mr_pg_raise(&st);
	if (spec->backbone)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model specification: a network has no \"backbone\"")));
	if (s.n_inputs < 1 || s.n_outputs < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the model has %d inputs and %d outputs", s.n_inputs, s.n_outputs)));
	if (spec->output)
	{
		StringInfoData names;

		initStringInfo(&names);
		for (output = 0; output < s.n_outputs; output++)
		{
			if (strcmp(s.outputs[output].name, spec->output) == 0)
				break;
			appendStringInfo(&names, "%s%s", output ? ", " : "", s.outputs[output].name);
		}
		if (output == s.n_outputs)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("model specification: the model has no output \"%s\"", spec->output),
					 errdetail("It has: %s.", names.data)));
	}
	for (int i = 0; i < s.n_outputs; i++)
		labels_fit |= s.outputs[i].elements == n_labels;
	if (!labels_fit)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there are %d labels, but no output of the model has as many numbers", n_labels)));
	reg_spec_complete(spec, &s.inputs[0]);
	f->kind = REG_ONNX;
	f->n_inputs = checked_count(s.inputs[0].elements, s.inputs[0].name);
	f->n_outputs = checked_count(s.outputs[output].elements, s.outputs[output].name);
	nn_summary_free(&env, &s);
}

/* A learner's model; a backbone is pinned in *spec_json. */
static const reg_model *
check_learner(const reg_new *new, reg_spec *spec, Jsonb **spec_json, int n_labels, found *f)
{
	const reg_model *backbone = NULL;
	lrn_info	info;
	mr_status	st;

	if (lrn_check(new->bytes, new->size, &info, &st) != MR_OK)
	{
		/* Damaged bytes are the caller's here, not the database's. */
		if (st.code == MR_CORRUPT)
			st.code = MR_INVALID;
		mr_pg_raise(&st);
	}
	f->kind = (reg_kind) info.algorithm;
	f->n_inputs = info.n_features;
	f->n_outputs = info.n_outputs;
	if (spec->has_input || spec->output || spec->n_classes || spec->precision != nn_float32)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model specification: \"%s\" is for networks, not for a model of kind \"%s\"",
						spec->has_input ? "input" : spec->output ? "output" :
						spec->n_classes ? "shapes" : "precision", reg_kind_name(f->kind))));
	if (n_labels != info.n_classes)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a model of %d classes cannot have %d labels", info.n_classes, n_labels),
				 errhint("Give the labels in the order of the classes: {\"labels\": [...]}.")));
	if (spec->backbone)
	{
		if (f->kind != LRN_PCA)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("model specification: only a model of kind \"pca\" can have a \"backbone\"")));
		backbone = reg_resolve(spec->backbone, REG_DESCRIBE);
		if (backbone->kind != REG_ONNX)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("model specification: backbone \"%s\" (%s) is not a network",
							backbone->reference, reg_kind_name(backbone->kind))));
		if (backbone->n_outputs != info.n_features)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("model specification: backbone \"%s\" gives %d numbers, the model takes %d",
							backbone->reference, backbone->n_outputs, info.n_features)));
		*spec_json = reg_jsonb_set_text(*spec_json, "backbone", backbone->reference);
	}
	return backbone;
}

static void
write_bytes(const uint8 sha[32], const void *bytes, size_t size)
{
	static const Oid types[] = {BYTEAOID, INT4OID, BYTEAOID};
	Datum		values[3];
	bytea	   *key = reg_bytea(sha, 32);

	reg_lock_bytes(sha);
	values[0] = PointerGetDatum(key);
	if (reg_execute("SELECT 1 FROM millrace.model_files WHERE sha256 = $1 LIMIT 1",
					1, types, values, NULL, SPI_OK_SELECT) > 0)
		return;
	for (size_t done = 0; done < size; done += CHUNK_SIZE)
	{
		bytea	   *chunk = reg_bytea((const char *) bytes + done, Min(CHUNK_SIZE, size - done));

		values[1] = Int32GetDatum((int32) (done / CHUNK_SIZE));
		values[2] = PointerGetDatum(chunk);
		reg_execute("INSERT INTO millrace.model_files (sha256, chunk_no, bytes) VALUES ($1, $2, $3)",
					3, types, values, NULL, SPI_OK_INSERT);
		pfree(chunk);
	}
}

static void
write_parent(const char *name, int version, const reg_parent *parent)
{
	static const Oid types[] = {TEXTOID, INT4OID, TEXTOID, INT4OID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name), Int32GetDatum(version),
		CStringGetTextDatum(parent->name), Int32GetDatum(parent->version),
	CStringGetTextDatum(parent->role)};

	reg_execute("INSERT INTO millrace.model_lineage (name, version, parent_name, parent_version, role) "
				"VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING", 5, types, values, NULL, SPI_OK_INSERT);
}

static Jsonb *
empty_object(void)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
}

/* The row; returns the version it was given. */
static int
write_version(const reg_write *w, const reg_new *new, const reg_row *row)
{
	static const Oid types[] = {TEXTOID, TEXTOID, BYTEAOID, INT8OID, JSONBOID, TEXTARRAYOID, JSONBOID,
	INT4OID, INT4OID, TEXTOID, JSONBOID, TEXTOID};
	Datum		values[lengthof(types)];
	char		nulls[lengthof(types) + 1] = "            ";
	bool		isnull;
	Datum		version;

	values[0] = CStringGetTextDatum(row->name);
	values[1] = CStringGetTextDatum(row->kind);
	values[2] = PointerGetDatum(reg_bytea(row->sha256, 32));
	values[3] = Int64GetDatum((int64) new->size);
	values[4] = JsonbPGetDatum(row->spec);
	values[5] = PointerGetDatum(row->labels);
	nulls[5] = row->labels ? ' ' : 'n';
	values[6] = JsonbPGetDatum(new->metrics ? new->metrics : empty_object());
	values[7] = Int32GetDatum(row->n_inputs);
	values[8] = Int32GetDatum(row->n_outputs);
	values[9] = CStringGetTextDatum(new->origin);
	values[10] = PointerGetDatum(new->training);
	nulls[10] = new->training ? ' ' : 'n';
	values[11] = CStringGetTextDatum(w->caller);
	reg_execute("INSERT INTO millrace.models (name, version, kind, sha256, size, spec, labels, metrics, "
				"n_inputs, n_outputs, origin, training, created_by) "
				"SELECT $1, 1 + COALESCE(max(m.version), 0), $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 "
				"FROM millrace.models m WHERE m.name = $1 RETURNING version",
				lengthof(types), types, values, nulls, SPI_OK_INSERT_RETURNING);
	version = reg_result(0, 1, &isnull);
	return DatumGetInt32(version);
}

int
reg_register(const reg_new *new)
{
	reg_spec	spec;
	Jsonb	   *spec_json = new->spec ? new->spec : empty_object();
	ArrayType  *labels;
	int			n_labels = 0;
	found		f;
	const reg_model *backbone = NULL;
	reg_row		row = {0};
	reg_write	w;
	reg_model  *model;

	reg_check_name(new->name, "model name");
	reg_spec_parse(spec_json, &spec);
	labels = new->labels ? new->labels : spec.labels;
	if (labels)
	{
		if (ARR_NDIM(labels) != 1 || array_contains_nulls(labels))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("labels must be a one-dimensional array without nulls")));
		n_labels = ARR_DIMS(labels)[0];
	}
	if (new->size >= sizeof(learner_magic) && memcmp(new->bytes, learner_magic, sizeof(learner_magic)) == 0)
		backbone = check_learner(new, &spec, &spec_json, n_labels, &f);
	else
		check_network(new, &spec, n_labels, &f);

	row.name = unconstify(char *, new->name);
	row.kind = unconstify(char *, reg_kind_name(f.kind));
	reg_sha256(new->bytes, new->size, row.sha256);
	row.spec = spec_json;
	row.labels = labels;
	row.n_inputs = f.n_inputs;
	row.n_outputs = f.n_outputs;

	reg_write_begin(&w, "registration of a model");
	reg_lock_name(new->name);
	row.version = write_version(&w, new, &row);
	write_bytes(row.sha256, new->bytes, new->size);
	if (backbone)
	{
		reg_parent	parent = {backbone->name, backbone->version, "backbone"};

		write_parent(row.name, row.version, &parent);
	}
	for (int i = 0; i < new->n_parents; i++)
		write_parent(row.name, row.version, &new->parents[i]);
	reg_write_end(&w);

	/* Compile now: what the compiler refuses is this call's error.  The model
	 * is ours alone until commit, so it does not stay in the cache. */
	CommandCounterIncrement();
	model = reg_model_of_row(&row);
	reg_load(model);
	model->loaded->dead = true;
	return row.version;
}
