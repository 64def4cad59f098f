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
#include "mb/pg_wchar.h"
#include "nn/nn_pg.h"
#include "registry/features.h"
#include "registry/write.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define CHUNK_SIZE ((size_t) 16 << 20)

static const char learner_magic[8] = "MRLEARN";

/* What the bytes are. */
typedef struct found
{
	reg_kind	kind;
	int			n_inputs;
	int			n_outputs;
	Jsonb	   *metrics;		/* NULL: what the caller says */
} found;

static Jsonb *
empty_object(void)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
}

static int
count_labels(ArrayType *labels)
{
	if (ARR_NDIM(labels) != 1 || array_contains_nulls(labels))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("labels must be a one-dimensional array without nulls")));
	return ARR_DIMS(labels)[0];
}

static int
checked_count(int64 n, const char *tensor)
{
	if (n < 1 || n > PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("tensor \"%s\" has " INT64_FORMAT " elements", tensor, n)));
	return (int) n;
}

/* Index of an output by its name; raises 22023. */
static int
find_output(const nn_summary *s, const char *name)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < s->n_outputs; i++)
	{
		if (strcmp(s->outputs[i].name, name) == 0)
			return i;
		appendStringInfo(&names, "%s%s", i ? ", " : "", s->outputs[i].name);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("model specification: the model has no output \"%s\"", name),
			 errdetail("It has: %s.", names.data)));
	return -1;
}

/* Labels that the graph itself has, as text[]. */
static ArrayType *
labels_of_graph(const nn_answer *a)
{
	Datum	   *labels = palloc(Max(a->n_labels, 1) * sizeof(Datum));

	for (int i = 0; i < a->n_labels; i++)
		labels[i] = CStringGetTextDatum(pg_any_to_server(a->labels[i], strlen(a->labels[i]), PG_UTF8));
	return construct_array(labels, a->n_labels, TEXTOID, -1, false, TYPALIGN_INT);
}

/* Inputs of one column each: their names are the features. */
static Jsonb *
set_features(Jsonb *json, const nn_summary *s)
{
	JsonbParseState *state = NULL;
	Jsonb	   *one;
	JsonbValue	v;

	for (int i = 0; i < s->n_inputs; i++)
		if (s->n_inputs < 2 || s->inputs[i].elements != 1)
			return json;
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	v.type = jbvString;
	v.val.string.val = "features";
	v.val.string.len = 8;
	pushJsonbValue(&state, WJB_KEY, &v);
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < s->n_inputs; i++)
	{
		v.val.string.val = pg_any_to_server(s->inputs[i].name, strlen(s->inputs[i].name), PG_UTF8);
		v.val.string.len = strlen(v.val.string.val);
		pushJsonbValue(&state, WJB_ELEM, &v);
	}
	pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	one = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(json), JsonbPGetDatum(one)));
}

/*
 * What the network answers: the specification's word, else what the graph shows
 * of that output.  Output and task found in the graph go into *json, so that
 * the version says them itself; labels likewise.
 */
static int
choose_answer(const nn_summary *s, reg_spec *spec, Jsonb **json, ArrayType **labels)
{
	const nn_answer *a = &s->answer;
	bool		found = a->task != nn_task_none && (spec->task == nn_task_none || spec->task == a->task);
	int			output = spec->output ? find_output(s, spec->output) : found ? a->output : 0;

	found = found && output == a->output;
	if (found && a->task == nn_task_regress && *labels)
		found = false;
	if (found && *labels == NULL && a->n_labels)
		*labels = labels_of_graph(a);
	if (found && spec->task == nn_task_none)
	{
		spec->task = a->task;
		*json = reg_jsonb_set_text(*json, "task", reg_task_name(a->task));
	}
	if (spec->output == NULL && (output != 0 || found))
		*json = reg_jsonb_set_text(*json, "output", s->outputs[output].name);
	return output;
}

/* Raises unless the answer is what its task wants. */
static void
check_answer(const reg_spec *spec, int n_labels, const nn_tensor_info *output)
{
	bool		fits = true;

	if (spec->task == nn_task_classify && n_labels == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model specification: a classifier needs labels, and the model itself has none"),
				 errhint("Give them in the order of output \"%s\": {\"labels\": [...]}.", output->name)));
	switch (spec->task)
	{
		case nn_task_classify:
			fits = output->elements == n_labels || (output->elements == 1 && n_labels == 2);
			break;
		case nn_task_regress:
			fits = output->elements == 1;
			break;
		case nn_task_cluster:
			fits = output->elements > 1;
			break;
		case nn_task_none:
			break;
	}
	if (!fits)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model specification: output \"%s\" has " INT64_FORMAT " numbers a row, which is not what \"%s\" %s",
						output->name, output->elements, reg_task_name(spec->task),
						spec->task == nn_task_classify ? psprintf("with %d labels answers", n_labels) : "answers"),
				 errhint("Name another output: {\"output\": \"...\"}.")));
}

/* Raises unless the features are the numbers that the model takes. */
static void
check_features(Jsonb *json, int n_inputs)
{
	int64		width = reg_features_width(json);

	if (width != 0 && width != n_inputs)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model specification: the features are " INT64_FORMAT " numbers, the model takes %d", width, n_inputs)));
}

/* Can an output be a detector's, of so many classes?  Room quality looks closer
 * when it runs. */
static bool
is_head(const nn_tensor_info *output, int n_labels)
{
	for (int i = 1; i < output->rank && output->rank == 3; i++)
		if (output->dims[i] == n_labels + 4 || output->dims[i] == n_labels + 5)
			return true;
	/* suppression inside: x1, y1, x2, y2, score, class */
	return (output->rank == 3 || (output->rank == 2 && output->dynamic[0])) &&
		(output->dims[output->rank - 1] == 6 || output->dims[output->rank - 1] == 7);
}

/* Names of a detector's classes that stand in the file, as text[]; NULL: none. */
static ArrayType *
names_of_file(const reg_new *new, const nn_tensor_info *output)
{
	mr_env		env = mr_pg_env(NULL);
	mr_status	st;
	char	   *text;
	int			n;
	Datum	   *labels;

	if (nn_read_names(&env, new->bytes, new->size, &text, &n, &st) != MR_OK)
		mr_pg_raise(&st);
	if (n == 0 || !is_head(output, n))
		return NULL;
	labels = palloc(n * sizeof(Datum));
	for (int i = 0; i < n; i++, text += strlen(text) + 1)
		labels[i] = CStringGetTextDatum(pg_any_to_server(text, strlen(text), PG_UTF8));
	return construct_array(labels, n, TEXTOID, -1, false, TYPALIGN_INT);
}

/* An ONNX file: the answer is spec.output, else the one that the graph shows,
 * else the first. */
static void
check_network(const reg_new *new, reg_spec *spec, Jsonb **json, ArrayType **labels, found *f)
{
	nn_options	opt = nn_pg_options();
	mr_env		env = mr_pg_env(NULL);
	nn_summary	s;
	mr_status	st;
	int			output;
	int			n_labels;
	bool		labels_fit;
	int64		elements;

	reg_features_class(*json, spec);
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
	output = choose_answer(&s, spec, json, labels);
	if (*labels == NULL && spec->task == nn_task_none && s.inputs[0].rank == 4)
		*labels = names_of_file(new, &s.outputs[output]);
	n_labels = *labels ? count_labels(*labels) : 0;
	check_answer(spec, n_labels, &s.outputs[output]);
	labels_fit = n_labels == 0 || spec->task == nn_task_classify;
	for (int i = 0; i < s.n_outputs; i++)
		labels_fit |= s.outputs[i].elements == n_labels || is_head(&s.outputs[i], n_labels);
	if (!labels_fit)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there are %d labels, but no output of the model has as many numbers", n_labels)));
	reg_spec_complete(spec, &s.inputs[0]);
	f->kind = REG_ONNX;
	elements = s.inputs[0].elements;
	for (int i = 1; i < s.n_inputs && spec->task != nn_task_none; i++)
		elements += s.inputs[i].elements;
	f->n_inputs = checked_count(elements, s.inputs[0].name);
	f->n_outputs = checked_count(s.outputs[output].elements, s.outputs[output].name);
	if (spec->task != nn_task_none && reg_features_width(*json) == 0)
		*json = set_features(*json, &s);
	check_features(*json, f->n_inputs);
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
	if (spec->has_input || spec->output || spec->n_classes || spec->task != nn_task_none || spec->precision != nn_float32)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model specification: \"%s\" is for networks, not for a model of kind \"%s\"",
						spec->has_input ? "input" : spec->output ? "output" :
						spec->n_classes ? "shapes" : spec->task != nn_task_none ? "task" : "precision", reg_kind_name(f->kind))));
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

/* A kind of another room's, which understands the specification itself. */
static void
check_room(const reg_new *new, reg_kind kind, Jsonb **spec_json, found *f)
{
	const reg_room_kind *room = reg_room_kind_of(kind);
	reg_found	about = {.spec = *spec_json,.metrics = new->metrics ? new->metrics : empty_object()};

	if (new->labels)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a model of kind \"%s\" has no labels", room->name)));
	room->check(new->bytes, new->size, room->parse(*spec_json), &about);
	f->kind = kind;
	f->n_inputs = about.n_inputs;
	f->n_outputs = about.n_outputs;
	f->metrics = about.metrics;
	*spec_json = about.spec;
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

/* The row; returns the version it was given. */
static int
write_version(const reg_write *w, const reg_new *new, const reg_row *row, Jsonb *metrics)
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
	values[6] = JsonbPGetDatum(metrics);
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
	ArrayType  *labels = new->labels;
	reg_kind	kind;
	found		f = {0};
	const reg_model *backbone = NULL;
	reg_row		row = {0};
	reg_write	w;
	reg_model  *model;

	reg_check_name(new->name, "model name");
	if (reg_kind_by_bytes(new->bytes, new->size, &kind))
		check_room(new, kind, &spec_json, &f);
	else
	{
		reg_spec_parse(spec_json, &spec);
		if (labels == NULL)
			labels = spec.labels;
		if (new->size >= sizeof(learner_magic) && memcmp(new->bytes, learner_magic, sizeof(learner_magic)) == 0)
			backbone = check_learner(new, &spec, &spec_json, labels ? count_labels(labels) : 0, &f);
		else
			check_network(new, &spec, &spec_json, &labels, &f);
	}

	row.name = unconstify(char *, new->name);
	row.kind = unconstify(char *, reg_kind_name(f.kind));
	reg_sha256(new->bytes, new->size, row.sha256);
	row.spec = spec_json;
	row.labels = labels;
	row.n_inputs = f.n_inputs;
	row.n_outputs = f.n_outputs;

	reg_write_begin(&w, "registration of a model");
	reg_lock_name(new->name);
	row.version = write_version(&w, new, &row, f.metrics ? f.metrics : new->metrics ? new->metrics : empty_object());
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
