/*
 * predictor_pg.c
 *	  Answers of a model to rows of a columnar matrix, slice by slice.
 *
 * One interface for learners in the registry, networks, and models that were
 * only just trained.  A slice is bounded in rows and bytes; interrupts are
 * served between slices and, by the learners and networks, within them.
 */
#include "postgres.h"

#include <math.h>

#include "core/core_pg.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "registry/evaluate.h"
#include "registry/run.h"

#define SLICE			1024	/* rows at once at most */
#define SLICE_NUMBERS	4000000 /* numbers in and out at once */

static void
answer_learner(void *arg, const float *rows, int64 n, float *out)
{
	reg_infer_learner(arg, rows, n, out);
}

static void
answer_network(void *arg, const float *rows, int64 n, float *out)
{
	reg_answer_rows(arg, rows, n, out);
}

void
eval_predictor_of(const reg_model *m, eval_predictor *p)
{
	nn_task		task = reg_task_of(m);

	*p = (eval_predictor) {.d = m->n_inputs,.k = task == nn_task_classify ? m->n_labels : m->n_outputs,
		.regression = task == nn_task_regress,.arg = unconstify(reg_model *, m)};
	reg_load(m);
	if (task != nn_task_classify && task != nn_task_regress)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" is not a classifier", m->reference),
				 m->kind != REG_ONNX ? errdetail("It predicts neither labels nor values.") :
				 m->n_labels ? errdetail("It has %d labels and %d outputs.", m->n_labels, m->n_outputs) :
				 reg_hint_task()));
	p->answer = m->kind == REG_ONNX ? answer_network : answer_learner;
}

static void
answer_unregistered(void *arg, const float *rows, int64 n, float *out)
{
	const lrn_model *m = arg;
	int64		slice = Max(1, lrn_slice(m));

	for (int64 done = 0; done < n; done += slice)
	{
		CHECK_FOR_INTERRUPTS();
		lrn_predict(m, rows + done * lrn_n_features(m), Min(slice, n - done), out + done * lrn_n_outputs(m));
	}
}

void
eval_predictor_of_learner(const lrn_model *m, eval_predictor *p)
{
	*p = (eval_predictor) {.d = lrn_n_features(m),.k = lrn_n_outputs(m),.regression = m->info.task == LRN_REGRESS,
		.answer = answer_unregistered,.arg = unconstify(lrn_model *, m)};
}

static void
answer_answered(void *arg, const float *rows, int64 n, float *out)
{
	const reg_model *m = arg;

	memcpy(out, rows, n * m->n_outputs * sizeof(float));
	for (int64 i = 0; i < n; i++)
		reg_softmax_if_logits(out + i * m->n_outputs, m->n_outputs);
}

void
eval_predictor_of_answers(const reg_model *m, eval_predictor *p)
{
	*p = (eval_predictor) {.d = m->n_outputs,.k = m->n_outputs,.answer = answer_answered,
		.arg = unconstify(reg_model *, m)};
}

/* Rows first .. first + n - 1 of the source, row-major. */
static void
fill(const eval_source *s, int d, int64 first, int64 n, float *rows)
{
	for (int c = 0; c < d; c++)
	{
		const float *x = s->col[c];
		bool		changed = c >= s->changed && c < s->changed + s->width;
		const uint32 *from = changed && s->order ? s->order : s->row;

		if (changed && s->order == NULL)
			for (int64 i = 0; i < n; i++)
				rows[i * d + c] = s->constant[c - s->changed];
		else if (from)
			for (int64 i = 0; i < n; i++)
				rows[i * d + c] = x[from[first + i]];
		else
			for (int64 i = 0; i < n; i++)
				rows[i * d + c] = x[first + i];
	}
}

void
eval_run(eval_predictor *p, const eval_source *s, eval_take take, void *arg)
{
	int64		slice = Max(1, Min(SLICE, SLICE_NUMBERS / Max(p->d + p->k, 1)));
	float	   *rows = palloc_extended((Size) slice * p->d * sizeof(float), MCXT_ALLOC_HUGE);
	float	   *out = palloc_extended((Size) slice * p->k * sizeof(float), MCXT_ALLOC_HUGE);

	for (int64 first = 0; first < s->rows; first += slice)
	{
		int64		n = Min(slice, s->rows - first);
		instr_time	start,
					end;

		CHECK_FOR_INTERRUPTS();
		fill(s, p->d, first, n, rows);
		INSTR_TIME_SET_CURRENT(start);
		p->answer(p->arg, rows, n, out);
		INSTR_TIME_SET_CURRENT(end);
		INSTR_TIME_SUBTRACT(end, start);
		p->seconds += INSTR_TIME_GET_DOUBLE(end);
		take(arg, first, n, out);
	}
	pfree(rows);
	pfree(out);
}
