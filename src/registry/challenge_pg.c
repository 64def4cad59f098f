/*
 * challenge_pg.c
 *	  millrace.challenge_model(): champion against challenger on the same rows.
 *
 * The name is locked first and the snapshot taken then: of two challenges at
 * once the second sees what the first decided.  The query is read once, as the
 * caller, into one matrix that both models answer from; the decision, its row
 * and the alias are written in the caller's transaction.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "fmgr.h"
#include "learn/score.h"
#include "learn/settings.h"
#include "miscadmin.h"
#include "registry/evaluate.h"
#include "registry/features.h"
#include "registry/options.h"
#include "registry/progress.h"
#include "registry/run.h"
#include "registry/train.h"
#include "registry/train_json.h"
#include "registry/write.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(millrace_challenge_model);

#define SLICE 1024				/* rows predicted at once */

/* The rule. */
typedef struct challenge_rule
{
	char	   *alias;
	char	   *metric_name;	/* NULL: accuracy, or rmse */
	lrn_score_kind metric;
	double		alpha;
	double		min_gain;
	int64		min_rows;
	int64		resamples;
	int64		seed;
	bool		mid_p;
	bool		promote_first;	/* without a champion */
	bool		dry_run;
} challenge_rule;

/* A model and its answers. */
typedef struct challenge_side
{
	const reg_model *model;		/* NULL: there is no champion */
	lrn_scored	s;
	double		score;
} challenge_side;

/* All that becomes a row. */
typedef struct challenge
{
	const char *name;
	const char *query;
	const char *target;
	Jsonb	   *options;
	challenge_rule rule;
	challenge_side champion;
	challenge_side challenger;
	const char *snapshot;
	int64		rows;
	int64		right[2][2];	/* champion right, challenger right */
	double		gain;
	double		p;
	lrn_interval interval;
	bool		better;
	char	   *reason;
	instr_time	start;
} challenge;

static void
read_rule(Jsonb *options, challenge_rule *r)
{
	const reg_option list[] = {
		REG_OPTION("metric", TEXT, &r->metric_name),
		REG_OPTION_IN("alpha", NUMBER, &r->alpha, 0.000001, 1),
		REG_OPTION_IN("min_gain", NUMBER, &r->min_gain, 0, 1e9),
		REG_OPTION_IN("min_rows", INTEGER, &r->min_rows, 1, 1e9),
		REG_OPTION_IN("resamples", INTEGER, &r->resamples, 100, 100000),
		REG_OPTION_IN("seed", INTEGER, &r->seed, 0, 4294967295.0),
		REG_OPTION("mid_p", BOOL, &r->mid_p),
		REG_OPTION("promote_first", BOOL, &r->promote_first),
		REG_OPTION("dry_run", BOOL, &r->dry_run),
		REG_OPTION("alias", TEXT, &r->alias),
		REG_OPTION_END
	};

	*r = (challenge_rule) {.alias = "champion",.alpha = 0.05,.min_rows = 30,.resamples = 1000,.promote_first = true};
	reg_read_options(options, "challenge_model()", list);
	reg_check_name(r->alias, "alias");
}

/* Both, under the active snapshot.  version 0: the newest. */
static void
find_models(challenge *c, int version)
{
	int			champion = reg_read_alias(c->name, c->rule.alias, GetActiveSnapshot());
	reg_row		row;
	bool		any;
	nn_task		task;
	mr_status	st = {0};

	if (version == 0 && reg_read_newest(c->name, GetActiveSnapshot(), &row, &any))
		version = row.version;
	c->challenger.model = reg_resolve(version ? psprintf("%s:%d", c->name, version) : c->name, REG_CLASSIFY);
	if (champion)
		c->champion.model = reg_resolve(psprintf("%s:%d", c->name, champion), REG_CLASSIFY);
	task = reg_task_of(c->challenger.model);
	if (task != nn_task_classify && task != nn_task_regress)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" (%s) predicts nothing that could be right or wrong", c->challenger.model->reference,
						reg_kind_name(c->challenger.model->kind)),
				 c->challenger.model->kind == REG_ONNX ? reg_hint_task() : 0));
	if (champion && reg_task_of(c->champion.model) != task)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("models \"%s\" and \"%s\" cannot be compared", c->champion.model->reference, c->challenger.model->reference),
				 errdetail("One classifies, the other predicts a number.")));
	if (c->rule.metric_name == NULL)
		c->rule.metric = task == nn_task_regress ? LRN_SCORE_RMSE : LRN_SCORE_ACCURACY;
	else if (lrn_score_find(c->rule.metric_name, task == nn_task_regress, &c->rule.metric, &st) != MR_OK)
		mr_pg_raise(&st);
	if (c->rule.metric == LRN_SCORE_ROC_AUC)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("challenge_model() has no paired test for metric \"roc_auc\""),
				 errhint("Use log_loss or brier.")));
}

/* Labels of the rows in the model's numbers; those it lacks lie behind its own. */
static int32 *
truth_for(const reg_model *m, const train_data *data)
{
	int32	   *map = palloc(Max(data->labels->n, 1) * sizeof(int32));
	int32	   *truth = palloc_extended(data->matrix.rows * sizeof(int32), MCXT_ALLOC_HUGE);

	for (int r = 0; r < data->labels->n; r++)
	{
		map[r] = m->n_labels + r;
		for (int c = 0; c < m->n_labels; c++)
			if (strcmp(m->labels[c], data->labels->text[r]) == 0)
				map[r] = c;
	}
	for (int64 i = 0; i < data->matrix.rows; i++)
		truth[i] = map[data->y[i]];
	pfree(map);
	return truth;
}

static void
answer(challenge_side *side, const train_data *data, lrn_score_kind metric)
{
	const reg_model *m = side->model;
	float *const *col = reg_map_matrix(m, data);
	int64		rows = data->matrix.rows;
	int			d = m->n_inputs;
	eval_predictor p;
	float	   *in = palloc_extended((Size) SLICE * d * sizeof(float), MCXT_ALLOC_HUGE);
	float	   *out;

	eval_predictor_of(m, &p);
	out = palloc_extended((Size) SLICE * p.k * sizeof(float), MCXT_ALLOC_HUGE);
	side->s = (lrn_scored) {.rows = rows,.n_classes = m->n_labels,.value = data->value};
	side->s.loss = palloc_extended(rows * sizeof(double), MCXT_ALLOC_HUGE);
	if (m->n_labels)
	{
		side->s.truth = truth_for(m, data);
		side->s.predicted = palloc_extended(rows * sizeof(int32), MCXT_ALLOC_HUGE);
	}
	for (int64 first = 0; first < rows; first += SLICE)
	{
		int64		n = Min(SLICE, rows - first);

		CHECK_FOR_INTERRUPTS();
		for (int c = 0; c < d; c++)
			for (int64 i = 0; i < n; i++)
				in[i * d + c] = col[c][first + i];
		p.answer(p.arg, in, n, out);
		lrn_score_enter(metric, &side->s, first, n, out);
		reg_progress_step(NULL, first + n, rows, NAN);
	}
	pfree(in);
	pfree(out);
	side->score = lrn_score(metric, &side->s, NULL, palloc(lrn_score_work(metric, &side->s) + 1));
}

static void
compare(challenge *c)
{
	const lrn_scored *a = &c->champion.s,
			   *b = &c->challenger.s;
	mr_env		env = mr_pg_env(NULL);
	mr_status	st = {0};

	c->gain = lrn_score_sign(c->rule.metric) * (c->challenger.score - c->champion.score);
	if (lrn_paired_bootstrap(&env, c->rule.metric, a, b, (int) c->rule.resamples, c->rule.alpha,
							 (uint64) c->rule.seed, &c->interval, &st) != MR_OK)
		mr_pg_raise(&st);
	c->p = c->interval.p;
	if (a->n_classes == 0)
		return;
	for (int64 i = 0; i < c->rows; i++)
		c->right[a->predicted[i] == a->truth[i]][b->predicted[i] == b->truth[i]]++;
	if (c->rule.metric == LRN_SCORE_ACCURACY)
		c->p = lrn_mcnemar(c->right[1][0], c->right[0][1], c->rule.mid_p);
}

static void
decide(challenge *c)
{
	const challenge_rule *r = &c->rule;
	bool		significant;
	char	   *scores;

	if (c->champion.model == NULL)
	{
		c->better = r->promote_first;
		c->reason = psprintf("there was no %s%s; %s %.6g on " INT64_FORMAT " rows", r->alias,
							 c->better ? "" : ", and promote_first is off", lrn_score_name(r->metric),
							 c->challenger.score, c->rows);
		return;
	}
	if (c->champion.model->version == c->challenger.model->version)
	{
		c->reason = psprintf("it is the %s already; %s %.6g on " INT64_FORMAT " rows", r->alias,
							 lrn_score_name(r->metric), c->challenger.score, c->rows);
		return;
	}
	scores = psprintf("%s %.6g against %.6g of version %d on " INT64_FORMAT " rows", lrn_score_name(r->metric),
					  c->challenger.score, c->champion.score, c->champion.model->version, c->rows);
	significant = r->metric == LRN_SCORE_ACCURACY ? c->gain > 0 && c->p < r->alpha : c->interval.low > 0;
	if (c->rows < r->min_rows)
		c->reason = psprintf("%s: too few rows, " INT64_FORMAT " are asked for", scores, r->min_rows);
	else if (!significant)
		c->reason = psprintf("%s: not better (p = %.4g, gain between %.4g and %.4g)", scores, c->p, c->interval.low, c->interval.high);
	else if (c->gain < r->min_gain)
		c->reason = psprintf("%s: better by %.4g only, %.4g is asked for", scores, c->gain, r->min_gain);
	else
	{
		c->better = true;
		c->reason = psprintf("%s: better (p = %.4g, gain between %.4g and %.4g)", scores, c->p, c->interval.low, c->interval.high);
	}
}

static Jsonb *
contingency(const challenge *c)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	json_push_integer(&state, "both_right", c->right[1][1]);
	json_push_integer(&state, "only_champion", c->right[1][0]);
	json_push_integer(&state, "only_challenger", c->right[0][1]);
	json_push_integer(&state, "both_wrong", c->right[0][0]);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* A number as datum, NaN as null. */
static Datum
number(double x, char *null)
{
	*null = isnan(x) ? 'n' : ' ';
	return Float8GetDatum(x);
}

/* Decision and alias; the row as jsonb. */
static Datum
write_decision(const challenge *c)
{
	static const Oid types[] = {TEXTOID, TEXTOID, INT4OID, INT4OID, TEXTOID, TEXTOID, JSONBOID, INT8OID, TEXTOID,
		FLOAT8OID, FLOAT8OID, FLOAT8OID, JSONBOID, TEXTOID, FLOAT8OID, FLOAT8OID, FLOAT8OID, BOOLOID, BOOLOID, TEXTOID,
	TEXTOID, FLOAT8OID, TEXTOID};
	Datum		values[lengthof(types)];
	char		nulls[lengthof(types) + 1];
	const reg_model *champion = c->champion.model;
	bool		promote = c->better && !c->rule.dry_run;
	bool		compared = champion && champion->version != c->challenger.model->version;
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext old;
	reg_write	w;
	int64		id;
	bool		isnull;
	Datum		row;

	reg_write_begin(&w, "challenge_model()");
	memset(nulls, ' ', sizeof(nulls));
	nulls[lengthof(types)] = '\0';
	values[0] = CStringGetTextDatum(c->name);
	values[1] = CStringGetTextDatum(c->rule.alias);
	values[2] = Int32GetDatum(champion ? champion->version : 0);
	nulls[2] = champion ? ' ' : 'n';
	values[3] = Int32GetDatum(c->challenger.model->version);
	values[4] = CStringGetTextDatum(c->query);
	values[5] = CStringGetTextDatum(c->target);
	values[6] = JsonbPGetDatum(c->options);
	values[7] = Int64GetDatum(c->rows);
	values[8] = CStringGetTextDatum(lrn_score_name(c->rule.metric));
	values[9] = number(compared ? c->champion.score : NAN, &nulls[9]);
	values[10] = number(c->challenger.score, &nulls[10]);
	values[11] = number(compared ? c->gain : NAN, &nulls[11]);
	values[12] = JsonbPGetDatum(contingency(c));
	nulls[12] = compared && c->champion.s.n_classes ? ' ' : 'n';
	values[13] = CStringGetTextDatum(c->rule.metric != LRN_SCORE_ACCURACY ? "bootstrap" :
									 c->rule.mid_p ? "mcnemar_mid_p" : "mcnemar");
	nulls[13] = compared ? ' ' : 'n';
	values[14] = number(compared ? c->p : NAN, &nulls[14]);
	values[15] = number(compared ? c->interval.low : NAN, &nulls[15]);
	values[16] = number(compared ? c->interval.high : NAN, &nulls[16]);
	values[17] = BoolGetDatum(c->better);
	values[18] = BoolGetDatum(promote);
	values[19] = CStringGetTextDatum(c->reason);
	values[20] = CStringGetTextDatum(c->snapshot);
	values[21] = Float8GetDatum(train_seconds_since(c->start));
	values[22] = CStringGetTextDatum(w.caller);
	reg_execute("INSERT INTO millrace.challenges AS c (name, alias, champion, challenger, query, target, options, rows, metric, "
				"champion_score, challenger_score, gain, contingency, test, p_value, gain_low, gain_high, better, promoted, "
				"reason, snapshot, seconds, decided_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, "
				"$15, $16, $17, $18, $19, $20, $21, $22, $23) RETURNING id, pg_catalog.to_jsonb(c)",
				lengthof(types), types, values, nulls, SPI_OK_INSERT_RETURNING);
	id = DatumGetInt64(reg_result(0, 1, &isnull));
	old = MemoryContextSwitchTo(caller);
	row = PointerGetDatum(PG_DETOAST_DATUM_COPY(reg_result(0, 2, &isnull)));
	MemoryContextSwitchTo(old);
	if (promote)
		reg_set_alias(&w, c->name, c->rule.alias, c->challenger.model->version,
					  psprintf("challenge " INT64_FORMAT ": %s", id, c->reason));
	reg_write_end(&w);
	return row;
}

/* millrace.challenge_model(name text, version int, query text, target text, options jsonb) -> jsonb */
Datum
millrace_challenge_model(PG_FUNCTION_ARGS)
{
	static const char *const argument[] = {"name", "version", "query", "target"};
	challenge	c = {.p = NAN,.gain = NAN,.interval = {NAN, NAN, NAN}};
	train_data *data;
	MemoryContext cxt,
				old;
	Datum		row;

	for (int i = 0; i < 4; i++)
		if (PG_ARGISNULL(i) && i != 1)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" must not be null", argument[i])));
	PreventCommandIfReadOnly("challenge_model()");
	INSTR_TIME_SET_CURRENT(c.start);
	c.name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	c.query = text_to_cstring(PG_GETARG_TEXT_PP(2));
	c.target = text_to_cstring(PG_GETARG_TEXT_PP(3));
	c.options = PG_ARGISNULL(4) ? json_of("{}") : PG_GETARG_JSONB_P(4);
	reg_check_name(c.name, "model name");
	read_rule(c.options, &c.rule);

	reg_lock_name(c.name);
	PushActiveSnapshot(GetTransactionSnapshot());
	find_models(&c, PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1));
	c.snapshot = train_snapshot();
	reg_progress_begin("challenge_model", c.challenger.model->reference, NULL, 0);
	data = train_read(&(train_request) {.query = c.query,.target = c.target,.categories = true,
					  .regression = c.challenger.model->n_labels == 0,
					  .limit = (Size) lrn_train_memory_kb * 1024,.algorithm = c.challenger.model->reference});
	c.rows = data->matrix.rows;

	cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace challenge", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(cxt);
	reg_progress_phase(REG_PHASE_EVALUATING);
	answer(&c.challenger, data, c.rule.metric);
	if (c.champion.model && c.champion.model->version != c.challenger.model->version)
	{
		answer(&c.champion, data, c.rule.metric);
		compare(&c);
	}
	MemoryContextSwitchTo(old);
	decide(&c);
	PopActiveSnapshot();
	row = write_decision(&c);
	MemoryContextDelete(cxt);
	train_data_free(data);
	reg_progress_end();
	PG_RETURN_DATUM(row);
}
