/*
 * evaluate_pg.c
 *	  millrace.evaluate_model(): a classifier measured on a query's rows.
 *
 * The query is read as in training (train_data_pg.c), within
 * millrace.train_memory; rows are predicted in sets by the same code as
 * classify(), and the figures become one row of millrace.evaluations.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "core/core_pg.h"
#include "learn/metrics.h"
#include "learn/settings.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "registry/catalog_pg.h"
#include "registry/train_data.h"
#include "registry/train_json.h"
#include "registry/write.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(millrace_evaluate_model);

#define SLICE			1024	/* rows predicted at once */
#define MAX_CONFUSION	200		/* labels up to which the matrix is kept */

/* Labels of the model and, behind them, those that only the rows have. */
typedef struct label_set
{
	const char **label;
	int			n;
	int		   *of_row_class;	/* class id of the query -> index in label */
} label_set;

static void
join_labels(const reg_model *m, const train_data *data, label_set *set)
{
	set->n = m->n_labels;
	set->label = palloc((m->n_labels + data->labels->n) * sizeof(char *));
	set->of_row_class = palloc(Max(data->labels->n, 1) * sizeof(int));
	for (int c = 0; c < m->n_labels; c++)
		set->label[c] = m->labels[c];
	for (int r = 0; r < data->labels->n; r++)
	{
		int			c = 0;

		while (c < m->n_labels && strcmp(m->labels[c], data->labels->text[r]) != 0)
			c++;
		if (c == m->n_labels)
		{
			c = set->n++;
			set->label[c] = data->labels->text[r];
		}
		set->of_row_class[r] = c;
	}
}

/*
 * Numbers of categories in this query -> those that the model was trained
 * with, by the values in its spec; a value that is not there is missing.
 */
static void
map_categories(const reg_model *m, train_data *data, Jsonb *spec)
{
	JsonbValue *features = getKeyJsonValueFromContainer(&spec->root, "features", 8, NULL);
	uint32		feature = 0;

	for (int i = 0; i < data->n_columns; i++)
	{
		train_column *c = &data->column[i];
		JsonbValue *f,
				   *values = NULL;
		float	   *map;
		float	   *x;

		if (!train_is_feature(c))
			continue;
		f = features && features->type == jbvBinary ?
			getIthJsonbValueFromContainer(features->val.binary.data, feature) : NULL;
		feature++;
		if (f && f->type == jbvBinary && JsonContainerIsObject(f->val.binary.data))
			values = getKeyJsonValueFromContainer(f->val.binary.data, "values", 6, NULL);
		if ((values != NULL) != (c->source == TRAIN_CATEGORY))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 values ? errmsg("column \"%s\" must be text, as it was when model \"%s\" was trained", c->name, m->reference) :
					 errmsg("column \"%s\" is text, but model \"%s\" takes a number there", c->name, m->reference)));
		if (values == NULL)
			continue;
		map = palloc(Max(c->values->n, 1) * sizeof(float));
		for (int k = 0; k < c->values->n; k++)
		{
			uint32		n = JsonContainerSize(values->val.binary.data);

			map[k] = NAN;
			for (uint32 v = 0; v < n; v++)
			{
				JsonbValue *value = getIthJsonbValueFromContainer(values->val.binary.data, v);

				if (value->type == jbvString && value->val.string.len == (int) strlen(c->values->text[k]) &&
					memcmp(value->val.string.val, c->values->text[k], value->val.string.len) == 0)
					map[k] = (float) v;
			}
		}
		x = data->matrix.col[c->first];
		for (int64 r = 0; r < data->matrix.rows; r++)
			if (!isnan(x[r]))
				x[r] = map[(int) x[r]];
	}
}

typedef struct sums
{
	lrn_confusion confusion;
	double		log_loss;
	double		brier;
	double		seconds;
} sums;

static void
predict_all(const reg_model *m, const train_data *data, const label_set *set, sums *s)
{
	int			d = data->matrix.cols,
				k = m->n_labels;
	float	   *rows = palloc_extended((Size) SLICE * d * sizeof(float), MCXT_ALLOC_HUGE);
	float	   *proba = palloc_extended((Size) SLICE * k * sizeof(float), MCXT_ALLOC_HUGE);
	mr_status	st = {0};

	for (int64 first = 0; first < data->matrix.rows; first += SLICE)
	{
		int64		n = Min(SLICE, data->matrix.rows - first);
		instr_time	start,
					end;

		CHECK_FOR_INTERRUPTS();
		for (int c = 0; c < d; c++)
			for (int64 i = 0; i < n; i++)
				rows[i * d + c] = data->matrix.col[c][first + i];
		INSTR_TIME_SET_CURRENT(start);
		reg_class_probabilities(m, rows, n, d, proba);
		INSTR_TIME_SET_CURRENT(end);
		INSTR_TIME_SUBTRACT(end, start);
		s->seconds += INSTR_TIME_GET_DOUBLE(end);
		for (int64 i = 0; i < n; i++)
		{
			const float *p = proba + i * k;
			int			truth = set->of_row_class[data->y[first + i]];
			int			best = 0;
			double		given = truth < k ? p[truth] : 0;

			for (int c = 0; c < k; c++)
			{
				double		miss = p[c] - (c == truth);

				best = p[c] > p[best] ? c : best;
				s->brier += miss * miss;
			}
			if (truth >= k)
				s->brier += 1;	/* nothing was given to a label the model lacks */
			s->log_loss -= log(fmax(given, 2.220446049250313e-16));
			if (lrn_confusion_add(&s->confusion, truth, best, 1, &st) != MR_OK)
				mr_pg_raise(&st);
		}
	}
	s->log_loss /= (double) data->matrix.rows;
	s->brier /= (double) data->matrix.rows;
}

static Jsonb *
per_class_json(const label_set *set, const lrn_class_metrics *per_class)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int c = 0; c < set->n; c++)
	{
		if (per_class[c].support + per_class[c].predicted == 0)
			continue;
		json_push_key(&state, set->label[c]);
		pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		json_push_number(&state, "precision", per_class[c].precision);
		json_push_number(&state, "recall", per_class[c].recall);
		json_push_number(&state, "f1", per_class[c].f1);
		json_push_integer(&state, "support", per_class[c].support);
		json_push_integer(&state, "predicted", per_class[c].predicted);
		pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static Jsonb *
confusion_json(const label_set *set, const lrn_confusion *confusion)
{
	JsonbParseState *state = NULL;
	int64	   *count = palloc0((Size) set->n * set->n * sizeof(int64));

	for (size_t i = 0; i < confusion->size; i++)
		if (confusion->cell[i].count > 0)
			count[(Size) confusion->cell[i].truth * set->n + confusion->cell[i].predicted] = confusion->cell[i].count;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	json_push_key(&state, "labels");
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int c = 0; c < set->n; c++)
		json_push_element(&state, set->label[c]);
	pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	json_push_key(&state, "counts");
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int c = 0; c < set->n; c++)
	{
		pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
		for (int o = 0; o < set->n; o++)
			json_push_integer_element(&state, count[(Size) c * set->n + o]);
		pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	}
	pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* {"store_metrics": bool}: whether the figures also go to millrace.models. */
static bool
read_options(Jsonb *options)
{
	JsonbIterator *it;
	JsonbValue	v;
	bool		store = false;

	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options must be a JSON object")));
	it = JsonbIteratorInit(&options->root);
	(void) JsonbIteratorNext(&it, &v, true);
	while (JsonbIteratorNext(&it, &v, true) == WJB_KEY)
	{
		char	   *name = pnstrdup(v.val.string.val, v.val.string.len);

		(void) JsonbIteratorNext(&it, &v, true);
		if (strcmp(name, "store_metrics") != 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("evaluate_model() has no option \"%s\"", name),
					 errhint("Known options: store_metrics.")));
		if (v.type != jbvBool)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"%s\" must be true or false", name)));
		store = v.val.boolean;
	}
	return store;
}

/* The row; returns its id. */
static int64
write_row(const reg_model *m, const char *query, const char *target, Jsonb *options, const lrn_metrics *f,
		  const sums *s, Jsonb *per_class, Jsonb *confusion, const char *snapshot, bool store)
{
	static const Oid types[] = {TEXTOID, INT4OID, TEXTOID, TEXTOID, JSONBOID, INT8OID, FLOAT8OID, FLOAT8OID,
		FLOAT8OID, FLOAT8OID, FLOAT8OID, FLOAT8OID, FLOAT8OID, FLOAT8OID, JSONBOID, JSONBOID, TEXTOID,
	FLOAT8OID, TEXTOID};
	static const Oid update_types[] = {TEXTOID, INT4OID, INT8OID};
	Datum		values[lengthof(types)];
	char		nulls[lengthof(types) + 1] = "                   ";
	reg_write	w;
	int64		id;
	bool		isnull;

	reg_write_begin(&w, "evaluate_model()");
	values[0] = CStringGetTextDatum(m->name);
	values[1] = Int32GetDatum(m->version);
	values[2] = CStringGetTextDatum(query);
	values[3] = CStringGetTextDatum(target);
	values[4] = JsonbPGetDatum(options);
	values[5] = Int64GetDatum(f->rows);
	values[6] = Float8GetDatum(f->accuracy);
	values[7] = Float8GetDatum(f->balanced_accuracy);
	values[8] = Float8GetDatum(f->precision_macro);
	values[9] = Float8GetDatum(f->recall_macro);
	values[10] = Float8GetDatum(f->f1_macro);
	values[11] = Float8GetDatum(f->f1_weighted);
	values[12] = Float8GetDatum(s->log_loss);
	values[13] = Float8GetDatum(s->brier);
	values[14] = JsonbPGetDatum(per_class);
	values[15] = PointerGetDatum(confusion);
	nulls[15] = confusion ? ' ' : 'n';
	values[16] = CStringGetTextDatum(snapshot);
	values[17] = Float8GetDatum(s->seconds * 1e6 / (double) f->rows);
	values[18] = CStringGetTextDatum(w.caller);
	reg_execute("INSERT INTO millrace.evaluations (name, version, query, target, options, rows, accuracy, "
				"balanced_accuracy, precision_macro, recall_macro, f1_macro, f1_weighted, log_loss, brier, "
				"per_class, confusion, snapshot, predict_us, evaluated_by) VALUES ($1, $2, $3, $4, $5, $6, $7, "
				"$8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) RETURNING id",
				lengthof(types), types, values, nulls, SPI_OK_INSERT_RETURNING);
	id = DatumGetInt64(reg_result(0, 1, &isnull));
	if (store)
	{
		values[2] = Int64GetDatum(id);
		reg_execute("UPDATE millrace.models m SET metrics = m.metrics || (SELECT pg_catalog.jsonb_build_object("
					"'evaluation', e.id, 'evaluation_rows', e.rows, 'accuracy', pg_catalog.round(e.accuracy::numeric, 6), "
					"'f1_macro', pg_catalog.round(e.f1_macro::numeric, 6)) FROM millrace.evaluations e WHERE e.id = $3) "
					"WHERE m.name = $1 AND m.version = $2", 3, update_types, values, NULL, SPI_OK_UPDATE);
	}
	reg_write_end(&w);
	return id;
}

/* millrace.evaluate_model(model text, query text, target text, options jsonb) -> bigint */
Datum
millrace_evaluate_model(PG_FUNCTION_ARGS)
{
	static const char *const argument[] = {"query", "target"};
	const reg_model *m;
	char	   *query,
			   *target,
			   *snapshot;
	Jsonb	   *options;
	reg_row		row;
	train_data *data;
	label_set	set;
	sums		s = {0};
	lrn_metrics figures;
	lrn_class_metrics *per_class;
	mr_env		env;
	bool		store;

	for (int i = 0; i < 2; i++)
		if (PG_ARGISNULL(i + 1))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" must not be null", argument[i])));
	PreventCommandIfReadOnly("evaluate_model()");
	query = text_to_cstring(PG_GETARG_TEXT_PP(1));
	target = text_to_cstring(PG_GETARG_TEXT_PP(2));
	options = PG_ARGISNULL(3) ? json_of("{}") : PG_GETARG_JSONB_P(3);
	store = read_options(options);
	m = reg_resolve(PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0)), REG_CLASSIFY);
	if (m->n_labels == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" is not a classifier", m->reference)));
	if (!reg_read_version(m->name, m->version, GetActiveSnapshot(), &row))
		elog(ERROR, "model \"%s\" has no row", m->reference);
	snapshot = DatumGetCString(DirectFunctionCall1(pg_snapshot_out,
												   DirectFunctionCall1(pg_current_snapshot, (Datum) 0)));

	data = train_read(&(train_request) {.query = query,.target = target,.categories = true,
					  .limit = (Size) lrn_train_memory_kb * 1024,.algorithm = m->reference});
	if (data->matrix.cols != m->n_inputs)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" takes %d numbers, the query has %d features",
						m->reference, m->n_inputs, data->matrix.cols)));
	map_categories(m, data, row.spec);
	join_labels(m, data, &set);
	env = mr_pg_env(CurrentMemoryContext);
	s.confusion.env = &env;
	predict_all(m, data, &set, &s);
	per_class = palloc(set.n * sizeof(lrn_class_metrics));
	lrn_metrics_of(&s.confusion, set.n, &figures, per_class);
	PG_RETURN_INT64(write_row(m, query, target, options, &figures, &s, per_class_json(&set, per_class),
							  set.n <= MAX_CONFUSION ? confusion_json(&set, &s.confusion) : NULL, snapshot, store));
}
