/*
 * tally_pg.c
 *	  Figures of a model's answers, gathered while it answers.
 *
 * Most are sums, whose memory follows labels, pairs of labels and bins.  Areas
 * under curves need the order of the scores of every label: those are taken
 * from a sample of the rows that fits the memory allowed; where all rows fit,
 * it is all of them.  The worst rows are kept in a heap.
 */
#include "postgres.h"

#include <math.h>

#include "core/core_pg.h"
#include "learn/sort.h"
#include "learn/split.h"
#include "miscadmin.h"
#include "registry/evaluate.h"
#include "registry/train_json.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#define MAX_CONFUSION	200		/* labels up to which the matrix is kept */
#define MIN_SAMPLE		1000	/* rows whatever the memory */

/* ---- labels ---- */

typedef struct label_entry
{
	const char *text;
	int			number;
} label_entry;

static uint32
hash_text(const void *key, Size size)
{
	const char *text = *(const char *const *) key;

	return (uint32) lrn_hash(text, strlen(text), 0);
}

static int
match_text(const void *a, const void *b, Size size)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

void
eval_join_labels(const char *const *known, int n_known, const train_dictionary *of_rows, eval_labels *out)
{
	HASHCTL		ctl = {.keysize = sizeof(char *),.entrysize = sizeof(label_entry),.hash = hash_text,
		.match = match_text,.hcxt = CurrentMemoryContext};
	HTAB	   *table = hash_create("millrace labels of a model", n_known + 1, &ctl,
									HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);

	out->known = out->n = n_known;
	out->label = palloc_extended((Size) (n_known + of_rows->n) * sizeof(char *), MCXT_ALLOC_HUGE);
	out->of_class = palloc(Max(of_rows->n, 1) * sizeof(int32));
	for (int c = 0; c < n_known; c++)
	{
		label_entry *e = hash_search(table, &known[c], HASH_ENTER, NULL);

		e->number = c;
		out->label[c] = known[c];
	}
	for (int r = 0; r < of_rows->n; r++)
	{
		label_entry *e = hash_search(table, &of_rows->text[r], HASH_FIND, NULL);

		out->of_class[r] = e ? e->number : out->n;
		if (e == NULL)
			out->label[out->n++] = of_rows->text[r];
	}
	hash_destroy(table);
}

/* ---- gathering ---- */

void
eval_tally_begin(eval_tally *t, const eval_labels *labels, const eval_settings *set, int64 rows,
				 const int32 *class_id, const float *value, const uint32 *row)
{
	memset(t, 0, sizeof(*t));
	t->labels = labels;
	t->set = *set;
	t->env = mr_pg_env(CurrentMemoryContext);
	t->rows = rows;
	t->class_id = class_id;
	t->value = value;
	t->row = row;
	t->error = palloc(Max(set->errors, 1) * sizeof(eval_error));
	if (labels == NULL)
		return;
	t->confusion.env = &t->env;
	t->top = palloc0(set->bins * sizeof(lrn_bin));
	t->of_label = palloc_extended((Size) labels->known * set->bins * sizeof(lrn_bin), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	/* Of a sampled row: its scores, its truth, and two keys and a scratch to rank them. */
	t->sample = Min(Min(rows, set->sample),
					Max(MIN_SAMPLE, (int64) (set->memory / (labels->known * sizeof(float) + 28))));
	t->score = palloc_extended((Size) Max(t->sample, 1) * labels->known * sizeof(float), MCXT_ALLOC_HUGE);
	t->score_truth = palloc_extended((Size) Max(t->sample, 1) * sizeof(int32), MCXT_ALLOC_HUGE);
}

/* Keep the worst; of equals the earlier row. */
static bool
less(const eval_error *a, const eval_error *b)
{
	return a->weight != b->weight ? a->weight < b->weight : a->row > b->row;
}

static void
keep_error(eval_tally *t, const eval_error *e)
{
	eval_error *heap = t->error;
	int			at;

	if (t->set.errors == 0)
		return;
	if (t->n_errors < t->set.errors)
	{
		at = t->n_errors++;
		for (; at > 0 && less(e, &heap[(at - 1) / 2]); at = (at - 1) / 2)
			heap[at] = heap[(at - 1) / 2];
		heap[at] = *e;
		return;
	}
	if (!less(&heap[0], e))
		return;
	at = 0;
	for (;;)
	{
		int			child = 2 * at + 1;

		if (child + 1 < t->n_errors && less(&heap[child + 1], &heap[child]))
			child++;
		if (child >= t->n_errors || !less(&heap[child], e))
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = *e;
}

/* Selection sampling (Knuth, volume 2, 3.4.2, algorithm S): exactly sample of
 * the rows, each set of them as likely as any other. */
static bool
is_sampled(const eval_tally *t)
{
	uint64		n = (uint64) t->seen;
	double		u;

	if (t->sample >= t->rows)
		return true;
	u = (double) (lrn_hash(&n, sizeof(n), t->set.seed) >> 11) * 0x1p-53;
	return u * (double) (t->rows - t->seen) < (double) (t->sample - t->sampled);
}

static void
take_class(eval_tally *t, int64 row, const float *p)
{
	int			k = t->labels->known,
				truth = t->labels->of_class[t->class_id[row]],
				best = 0;
	double		given = truth < k ? p[truth] : 0;
	lrn_bin    *bin;
	mr_status	st = {0};

	for (int c = 0; c < k; c++)
	{
		double		miss = p[c] - (c == truth);

		bin = &t->of_label[(Size) c * t->set.bins + lrn_bin_of(p[c], t->set.bins)];
		bin->n++;
		bin->sum += p[c];
		bin->right += c == truth;
		best = p[c] > p[best] ? c : best;
		t->brier += miss * miss;
	}
	if (truth >= k)
		t->brier += 1;			/* nothing was given to a label the model lacks */
	t->log_loss += lrn_log_loss(given);
	bin = &t->top[lrn_bin_of(p[best], t->set.bins)];
	bin->n++;
	bin->sum += p[best];
	bin->right += best == truth;
	if (lrn_confusion_add(&t->confusion, truth, best, 1, &st) != MR_OK)
		mr_pg_raise(&st);
	if (best != truth)
		keep_error(t, &(eval_error) {.row = row,.truth = truth,.predicted = best,.weight = p[best],.given = given});
	if (is_sampled(t))
	{
		memcpy(t->score + (Size) t->sampled * k, p, k * sizeof(float));
		t->score_truth[t->sampled++] = truth;
	}
}

void
eval_tally_take(void *tally, int64 first, int64 n, const float *out)
{
	eval_tally *t = tally;

	for (int64 i = 0; i < n; i++)
	{
		int64		row = t->row ? t->row[first + i] : first + i;

		if (t->labels)
			take_class(t, row, out + i * t->labels->known);
		else
		{
			lrn_residuals_add(&t->residuals, t->value[row], out[i]);
			keep_error(t, &(eval_error) {.row = row,.value = t->value[row],.answer = out[i],
					   .weight = fabs((double) out[i] - t->value[row])});
		}
		t->seen++;
	}
}

/* ---- figures ---- */

bool
eval_ranking(eval_tally *t, int label, lrn_ranking *r)
{
	int			k = t->labels->known;
	uint64	   *key = mr_alloc(&t->env, (Size) Max(t->sampled, 1) * sizeof(uint64));
	int64		positive = 0,
				negative = 0;
	mr_status	st = {0};

	if (key == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	/* Positives from the front, negatives from the back. */
	for (int64 i = 0; i < t->sampled; i++)
	{
		uint64		x = lrn_key_of(t->score[(Size) i * k + label]);

		if (t->score_truth[i] == label)
			key[positive++] = x;
		else
			key[t->sampled - ++negative] = x;
	}
	if (lrn_sort_keys(&t->env, key, NULL, positive, &st) != MR_OK ||
		lrn_sort_keys(&t->env, key + positive, NULL, negative, &st) != MR_OK)
		mr_pg_raise(&st);
	*r = (lrn_ranking) {.env = &t->env,.positive = key,.negative = key + positive,
		.n_positive = positive,.n_negative = negative};
	return positive > 0 && negative > 0;
}

static void
areas(eval_tally *t, eval_figures *f)
{
	int			k = t->labels->known,
				n = 0;
	double		weight = 0;

	f->roc_auc = palloc(Max(k, 1) * sizeof(double));
	f->pr_auc = palloc(Max(k, 1) * sizeof(double));
	f->roc_auc_macro = f->roc_auc_weighted = f->pr_auc_macro = f->pr_auc_weighted = 0;
	for (int c = 0; c < k; c++)
	{
		double		support = f->per_class[c].support;
		lrn_ranking r;

		f->roc_auc[c] = f->pr_auc[c] = NAN;
		CHECK_FOR_INTERRUPTS();
		if (support == 0 || support == f->m.rows)
			continue;
		if (eval_ranking(t, c, &r))
		{
			f->roc_auc[c] = lrn_roc_auc(&r);
			f->pr_auc[c] = lrn_average_precision(&r);
			CHECK_FOR_INTERRUPTS();
			n++;
			weight += support;
			f->roc_auc_macro += f->roc_auc[c];
			f->pr_auc_macro += f->pr_auc[c];
			f->roc_auc_weighted += support * f->roc_auc[c];
			f->pr_auc_weighted += support * f->pr_auc[c];
		}
		mr_free(&t->env, unconstify(uint64 *, r.positive));
	}
	f->roc_auc_macro = n ? f->roc_auc_macro / n : NAN;
	f->pr_auc_macro = n ? f->pr_auc_macro / n : NAN;
	f->roc_auc_weighted = n ? f->roc_auc_weighted / weight : NAN;
	f->pr_auc_weighted = n ? f->pr_auc_weighted / weight : NAN;
}

void
eval_figures_of(eval_tally *t, eval_figures *f)
{
	memset(f, 0, sizeof(*f));
	f->rows = t->seen;
	f->regression = t->labels == NULL;
	f->residuals = t->residuals;
	if (f->regression)
		return;
	f->per_class = palloc_extended((Size) Max(t->labels->n, 1) * sizeof(lrn_class_metrics), MCXT_ALLOC_HUGE);
	lrn_metrics_of(&t->confusion, t->labels->n, &f->m, f->per_class);
	f->log_loss = t->log_loss / (double) Max(t->seen, 1);
	f->brier = t->brier / (double) Max(t->seen, 1);
	f->calibration_error = lrn_calibration_error(t->top, t->set.bins);
	areas(t, f);
}

/* Names of figures, in the order they are shown. */
typedef struct figure_name
{
	const char *name;
	size_t		offset;
	int			sign;			/* -1: less is better */
} figure_name;

static const figure_name class_figures[] = {
	{"accuracy", offsetof(eval_figures, m.accuracy), 1},
	{"balanced_accuracy", offsetof(eval_figures, m.balanced_accuracy), 1},
	{"precision_macro", offsetof(eval_figures, m.precision_macro), 1},
	{"precision_weighted", offsetof(eval_figures, m.precision_weighted), 1},
	{"recall_macro", offsetof(eval_figures, m.recall_macro), 1},
	{"recall_weighted", offsetof(eval_figures, m.recall_weighted), 1},
	{"f1_macro", offsetof(eval_figures, m.f1_macro), 1},
	{"f1_weighted", offsetof(eval_figures, m.f1_weighted), 1},
	{"cohen_kappa", offsetof(eval_figures, m.kappa), 1},
	{"mcc", offsetof(eval_figures, m.mcc), 1},
	{"log_loss", offsetof(eval_figures, log_loss), -1},
	{"brier", offsetof(eval_figures, brier), -1},
	{"calibration_error", offsetof(eval_figures, calibration_error), -1},
	{"roc_auc", offsetof(eval_figures, roc_auc_macro), 1},
	{"roc_auc_weighted", offsetof(eval_figures, roc_auc_weighted), 1},
	{"pr_auc", offsetof(eval_figures, pr_auc_macro), 1},
	{"pr_auc_weighted", offsetof(eval_figures, pr_auc_weighted), 1},
};

static const char *const value_figures[] = {"mae", "mse", "rmse", "r2"};

static double
value_figure(const lrn_residuals *s, int which)
{
	double		n = (double) Max(s->n, 1);

	return which == 0 ? s->absolute / n : which == 1 ? s->square / n : which == 2 ? sqrt(s->square / n) : lrn_r2(s);
}

double
eval_figure(const eval_figures *f, const char *name)
{
	StringInfoData known;
	int			n = f->regression ? (int) lengthof(value_figures) : (int) lengthof(class_figures);

	initStringInfo(&known);
	for (int i = 0; i < n; i++)
	{
		const char *its = f->regression ? value_figures[i] : class_figures[i].name;

		if (strcmp(its, name) == 0)
			return f->regression ? value_figure(&f->residuals, i) :
				*(const double *) ((const char *) f + class_figures[i].offset);
		appendStringInfo(&known, "%s%s", i ? ", " : "", its);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("metric \"%s\" does not exist for %s", name, f->regression ? "a regression" : "a classifier"),
			 errhint("Known metrics: %s.", known.data)));
	return NAN;
}

int
eval_figure_sign(const char *name)
{
	for (int i = 0; i < (int) lengthof(class_figures); i++)
		if (strcmp(class_figures[i].name, name) == 0)
			return class_figures[i].sign;
	return strcmp(name, "r2") == 0 ? 1 : -1;
}

Jsonb *
eval_figures_json(const eval_tally *t, const eval_figures *f)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	json_push_integer(&state, "rows", f->rows);
	if (f->regression)
		for (int i = 0; i < (int) lengthof(value_figures); i++)
			json_push_double(&state, value_figures[i], value_figure(&f->residuals, i));
	else
	{
		for (int i = 0; i < (int) lengthof(class_figures); i++)
			json_push_double(&state, class_figures[i].name, *(const double *) ((const char *) f + class_figures[i].offset));
		if (t->sampled < t->seen)
			json_push_integer(&state, "ranked_rows", t->sampled);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

Jsonb *
eval_per_class_json(const eval_tally *t, const eval_figures *f)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int c = 0; c < t->labels->n; c++)
	{
		const lrn_class_metrics *m = &f->per_class[c];

		if (m->support + m->predicted == 0)
			continue;
		json_push_key(&state, t->labels->label[c]);
		pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		json_push_number(&state, "precision", m->precision);
		json_push_number(&state, "recall", m->recall);
		json_push_number(&state, "f1", m->f1);
		json_push_integer(&state, "support", m->support);
		json_push_integer(&state, "predicted", m->predicted);
		if (c < t->labels->known)
		{
			json_push_number(&state, "roc_auc", f->roc_auc[c]);
			json_push_number(&state, "pr_auc", f->pr_auc[c]);
			json_push_number(&state, "calibration_error",
							 lrn_calibration_error(t->of_label + (Size) c * t->set.bins, t->set.bins));
		}
		pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

Jsonb *
eval_confusion_json(const eval_tally *t)
{
	JsonbParseState *state = NULL;
	int			n = t->labels->n;
	int64	   *count;

	if (n > MAX_CONFUSION)
		return NULL;
	count = palloc0((Size) n * n * sizeof(int64));
	for (size_t i = 0; i < t->confusion.size; i++)
		if (t->confusion.cell[i].count > 0)
			count[(Size) t->confusion.cell[i].truth * n + t->confusion.cell[i].predicted] = t->confusion.cell[i].count;
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	json_push_key(&state, "labels");
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int c = 0; c < n; c++)
		json_push_element(&state, t->labels->label[c]);
	pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	json_push_key(&state, "counts");
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int c = 0; c < n; c++)
	{
		pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
		for (int o = 0; o < n; o++)
			json_push_integer_element(&state, count[(Size) c * n + o]);
		pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	}
	pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static int
worst_first(const void *a, const void *b)
{
	return less(a, b) ? 1 : less(b, a) ? -1 : 0;
}

void
eval_sort_errors(eval_tally *t)
{
	qsort(t->error, t->n_errors, sizeof(eval_error), worst_first);
}
