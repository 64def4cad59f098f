/*
 * rows_pg.c
 *	  Networks as classifiers and regressors: rows of numbers to probabilities,
 *	  to a value.
 *
 * What makes a network one: labels for its answer, or a task, which import finds
 * in the graph (nn/answer.c) or the specification gives.  A row is cut into the
 * network's inputs in their order, in their types.  Rows go in slices; one block of
 * reg_scratch() holds what a slice needs.
 */
#include "postgres.h"

#include <math.h>

#include "core/core_pg.h"
#include "miscadmin.h"
#include "registry/run.h"
#include "utils/memutils.h"

#define SLICE			1024	/* rows at once at most */
#define SLICE_NUMBERS	1000000 /* numbers in and out at once */
#define ALIGN64(n) (((n) + 63) & ~(size_t) 63)

/* ---- what a network is ---- */

nn_task
reg_task_of(const reg_model *m)
{
	if (m->kind != REG_ONNX)
	{
		reg_load(m);
		switch (m->loaded->lrn.info.task)
		{
			case LRN_CLASSIFY:
				return nn_task_classify;
			case LRN_REGRESS:
				return nn_task_regress;
			case LRN_CLUSTER:
				return nn_task_cluster;
			default:
				return nn_task_none;
		}
	}
	if (m->loaded->spec.task != nn_task_none)
		return m->loaded->spec.task;
	return m->n_labels > 0 && m->n_labels == m->n_outputs ? nn_task_classify : nn_task_none;
}

int
reg_hint_task(void)
{
	return errhint("Import it with a specification that says what it answers: {\"labels\": [...], \"output\": \"...\"}, "
				   "one label for each number of the output, or {\"task\": \"regression\"}.");
}

int64
reg_row_elements(const nn_model *nn, nn_task task)
{
	int64		sum = nn_input(nn, 0)->elements;

	for (int i = 1; i < nn_n_inputs(nn) && task != nn_task_none; i++)
		sum += nn_input(nn, i)->elements;
	return sum;
}

/* Raises unless the network takes rows of numbers. */
static void
check_rows(const reg_model *m)
{
	const nn_model *nn = &m->loaded->nn;
	int			n = nn_n_inputs(nn);

	if (n > 1 && m->loaded->spec.task == nn_task_none)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" does not take one array of numbers", m->reference),
				 errdetail("It has %d inputs.", n),
				 errhint("Import it with a \"task\" in its specification if a row's numbers are its inputs, in their order.")));
	for (int i = 0; i < n; i++)
		(void) reg_element_size(nn_input(nn, i)->dtype, nn_input(nn, i)->name);
}

/* ---- running ---- */

/* Where a slice's numbers lie. */
typedef struct slice
{
	const reg_model *model;
	int64		rows;			/* at most */
	const void *inputs[NN_MAX_PORTS];
	void	   *made[NN_MAX_PORTS]; /* inputs that are not the rows themselves, else NULL */
	void	   *outputs[NN_MAX_PORTS];
	float	   *answers;		/* NULL: the caller's */
	void	   *work;
} slice;

static void
open_slice(const reg_model *m, int64 rows, slice *s)
{
	const nn_model *nn = &m->loaded->nn;
	const nn_tensor_info *out = nn_output(nn, m->loaded->output);
	int			n = nn_n_inputs(nn);
	size_t		at[NN_MAX_PORTS];
	size_t		size = 0,
				output;
	char	   *block;

	memset(s, 0, sizeof(*s));
	s->model = m;
	s->rows = Max(1, Min(rows, Min(SLICE, SLICE_NUMBERS / Max(1, (int64) m->n_inputs + m->n_outputs))));
	for (int i = 0; i < n; i++)
	{
		at[i] = size;
		if (n > 1 || nn_input(nn, i)->dtype != nn_float32)
			size += ALIGN64(s->rows * nn_input(nn, i)->elements * reg_element_size(nn_input(nn, i)->dtype, nn_input(nn, i)->name));
	}
	output = size;
	if (out->dtype != nn_float32)
		size += ALIGN64(s->rows * out->elements * reg_element_size(out->dtype, out->name));
	block = reg_scratch(size + nn_workspace(nn));
	for (int i = 0; i < n; i++)
		if (n > 1 || nn_input(nn, i)->dtype != nn_float32)
			s->inputs[i] = s->made[i] = block + at[i];
	if (out->dtype != nn_float32)
		s->outputs[m->loaded->output] = block + output;
	s->work = block + size;
}

/* Columns of the rows as the inputs that are not the rows themselves. */
static void
fill_inputs(slice *s, const float *rows, int64 n)
{
	const reg_model *m = s->model;
	const nn_model *nn = &m->loaded->nn;
	int64		first = 0;

	for (int i = 0; i < nn_n_inputs(nn); i++)
	{
		const nn_tensor_info *t = nn_input(nn, i);

		if (s->made[i] == NULL)
			s->inputs[i] = rows;
		for (int64 r = 0; s->made[i] && r < n; r++)
			for (int64 c = 0; c < t->elements; c++)
			{
				float		x = rows[r * m->n_inputs + first + c];

				if (!reg_set_element(s->made[i], t->dtype, r * t->elements + c, x))
					ereport(ERROR,
							(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							 errmsg("input \"%s\" of model \"%s\": %g is out of range for type %s", t->name, m->reference,
									x, nn_dtype_name((nn_dtype) t->dtype))));
			}
		first += t->elements;
	}
}

static void
run_slice(slice *s, const float *rows, int64 n, float *out)
{
	const reg_model *m = s->model;
	const reg_loaded *l = m->loaded;
	const nn_tensor_info *t = nn_output(&l->nn, l->output);
	mr_env		env = mr_pg_env(NULL);
	mr_status	st;
	mr_code		code;

	fill_inputs(s, rows, n);
	if (t->dtype == nn_float32)
		s->outputs[l->output] = out;
	reg_stat_start(m, n);
	code = nn_run_typed(&l->nn, &env, s->work, (int) n, s->inputs, s->outputs, &st);
	reg_stat_end(m, n);
	if (code != MR_OK)
		mr_pg_raise(&st);
	if (t->dtype != nn_float32)
		for (int64 i = 0; i < n * t->elements; i++)
			out[i] = (float) reg_get_element(s->outputs[l->output], t->dtype, i);
}

void
reg_infer_rows(const reg_model *m, const float *rows, int64 n, float *out)
{
	slice		s;

	reg_load(m);
	check_rows(m);
	open_slice(m, n, &s);
	for (int64 done = 0; done < n; done += s.rows)
	{
		CHECK_FOR_INTERRUPTS();
		run_slice(&s, rows + done * m->n_inputs, Min(s.rows, n - done), out + done * m->n_outputs);
	}
}

/* ---- answers ---- */

/* What is no distribution becomes one.  Sums of float32 may be a little beside 0
 * and 1: that is a distribution still, without what is below 0. */
void
reg_softmax_if_logits(float *p, int k)
{
	double		sum = 0;
	float		top = p[0];
	bool		distribution = true;

	for (int c = 0; c < k; c++)
	{
		sum += p[c];
		top = fmaxf(top, p[c]);
		distribution &= p[c] >= -1e-5f;
	}
	if (distribution && fabs(sum - 1) < 1e-3)
	{
		for (int c = 0; c < k; c++)
			p[c] = fmaxf(p[c], 0);
		return;
	}
	sum = 0;
	for (int c = 0; c < k; c++)
		sum += p[c] = (float) exp((double) p[c] - (double) top);
	for (int c = 0; c < k; c++)
		p[c] = (float) (p[c] / sum);
}

/* A network that does not know missing values answers NaN to them. */
static void
check_answers(const reg_model *m, const float *rows, int64 n, const float *out)
{
	for (int64 i = 0; i < n * m->n_outputs; i++)
		if (isnan(out[i]))
		{
			const float *row = rows + i / m->n_outputs * m->n_inputs;
			int			c = 0;

			while (c < m->n_inputs && !isnan(row[c]))
				c++;
			if (c == m->n_inputs)
				ereport(ERROR,
						(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						 errmsg("model \"%s\" (%s) answers NaN", m->reference, reg_kind_name(m->kind)),
						 errdetail("This is its answer to row " INT64_FORMAT ".", i / m->n_outputs + 1)));
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("model \"%s\" (%s) does not take missing values", m->reference, reg_kind_name(m->kind)),
					 errdetail("Number %d of row " INT64_FORMAT " is NaN.", c + 1, i / m->n_outputs + 1)));
		}
}

/* One score for two classes, n times, from the end so that in place works. */
static void
spread_scores(float *p, int64 n)
{
	for (int64 i = n; i-- > 0;)
	{
		p[2 * i + 1] = p[i];
		p[2 * i] = 0;
	}
}

void
reg_answer_rows(const reg_model *m, const float *rows, int64 n, float *out)
{
	reg_infer_rows(m, rows, n, out);
	check_answers(m, rows, n, out);
	if (reg_task_of(m) != nn_task_classify)
		return;
	if (m->n_labels != m->n_outputs)
		spread_scores(out, n);
	for (int64 i = 0; i < n; i++)
		reg_softmax_if_logits(out + i * m->n_labels, m->n_labels);
}
