/*
 * run_pg.c
 *	  Running models: images to descriptors, rows to classes, numbers to numbers.
 *
 * One thread, the backend's own.  Interrupts: the cores ask at least every
 * 10 ms; learners are called in slices of less than that.
 * Memory: reg_scratch() for everything a run needs, known before it starts.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "image/image_pg.h"
#include "miscadmin.h"
#include "registry/run.h"
#include "registry/train_data.h"
#include "utils/memutils.h"

#define MANY (1 << 20)			/* numbers looked at between interrupts */
#define NETWORK_SLICE 1024		/* rows whose probabilities are at hand at once */
#define ALIGN64(n) (((n) + 63) & ~(size_t) 63)
#define MISSING_HINT "Models of trees take NULL as a missing value; others need a number, say of coalesce()."

/* Holds a decoded image while it is turned into a tensor. */
static MemoryContext image_cxt = NULL;

/* What runs on images for a model: itself, or its backbone. */
static const reg_model *
network_of(const reg_model *m)
{
	reg_loaded *l = m->loaded;

	if (m->kind == LRN_PCA && l->spec.backbone)
	{
		if (l->backbone == NULL)
			l->backbone = reg_resolve(l->spec.backbone, REG_DESCRIBE);
		if (l->backbone->kind != REG_ONNX || l->backbone->n_outputs != m->n_inputs)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("backbone \"%s\" gives %d numbers, but model \"%s\" takes %d",
							l->backbone->reference, l->backbone->n_outputs, m->reference, m->n_inputs)));
		return l->backbone;
	}
	if (m->kind == REG_ONNX)
		return m;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("model \"%s\" (%s) does not take images", m->reference, reg_kind_name(m->kind)),
			 m->kind == LRN_PCA ?
			 errhint("Its specification names no backbone: train it with the option \"backbone\".") :
			 errhint("Use extract_descriptors() with a network or a PCA, and give the result to classify().")));
	return NULL;
}

/* An empty place for a decoded image. */
mr_env
reg_image_env(void)
{
	if (image_cxt == NULL)
		image_cxt = AllocSetContextCreate(TopMemoryContext, "millrace image", ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(image_cxt);	/* of a call that failed */
	return mr_pg_env(image_cxt);
}

/* After an image was read: what is wrong with it is the caller's, all else raises. */
mr_code
reg_image_failed(mr_code code, const mr_status *st)
{
	if (image_cxt)
		MemoryContextReset(image_cxt);
	if (code == MR_INVALID || code == MR_LIMIT || code == MR_UNSUPPORTED || code == MR_CORRUPT)
		reg_stat_failed();
	else if (code != MR_OK)
		mr_pg_raise(st);
	return code;
}

mr_code
reg_extract(const reg_model *m, const uint8 *image, size_t size, float *out, mr_status *st)
{
	const reg_model *network = network_of(m);
	reg_loaded *l = network->loaded;
	const img_limits *limits = img_current_limits();
	size_t		input_size = ALIGN64(sizeof(float) * network->n_inputs);
	size_t		output_size = ALIGN64(sizeof(float) * network->n_outputs);
	const float *inputs[NN_MAX_PORTS];
	float	   *outputs[NN_MAX_PORTS] = {0};
	mr_env		env;
	mr_code		code;
	float	   *input;
	float	   *features;

	reg_stat_ask(m);
	reg_load(network);
	if (m != network)
		reg_load(m);
	if (nn_n_inputs(&l->nn) != 1 || l->spec.prep.width == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" does not take images", network->reference),
				 errdetail("It has %d inputs; the first, \"%s\", has %d dimensions.", nn_n_inputs(&l->nn),
						   nn_input(&l->nn, 0)->name, nn_input(&l->nn, 0)->rank)));
	input = reg_scratch(input_size + output_size + nn_workspace(&l->nn));
	features = (float *) ((char *) input + input_size);

	env = reg_image_env();
	code = reg_image_failed(img_to_tensor(&env, image, size, limits, &l->spec.prep, input, st), st);
	if (code != MR_OK)
		return code;

	inputs[0] = input;
	outputs[l->output] = m == network ? out : features;
	env = mr_pg_env(NULL);
	reg_stat_start(network, 1);
	code = nn_run(&l->nn, &env, (char *) features + output_size, 1, inputs, outputs, st);
	reg_stat_end(network, 1);
	if (code != MR_OK)
		mr_pg_raise(st);
	if (m != network)
	{
		reg_stat_start(m, 1);
		lrn_predict(&m->loaded->lrn, features, 1, out);
		reg_stat_end(m, 1);
	}
	return MR_OK;
}

bool
reg_takes_missing(const reg_model *m)
{
	/* an imputer or trees within a network may know what to do */
	if (m->kind == REG_ONNX)
		return m->loaded->spec.task != nn_task_none;
	return lrn_takes((lrn_algorithm) m->kind, LRN_TAKES_MISSING);
}

void
reg_check_columns(const reg_model *m, int64 columns)
{
	if (columns != m->n_inputs)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" takes %d numbers, not " INT64_FORMAT,
						m->reference, m->n_inputs, columns)));
}

static void
check_classifier(const reg_model *m)
{
	if (m->kind == REG_ONNX ? reg_task_of(m) != nn_task_classify : m->n_labels == 0 || m->n_labels != m->n_outputs)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" (%s) is not a classifier", m->reference, reg_kind_name(m->kind)),
				 m->kind != REG_ONNX ? 0 :
				 m->loaded->spec.task == nn_task_none ? reg_hint_task() : errhint("Use predict().")));
}

/* Neither infinity nor NaN among n numbers?  Two at once: adding 1 to an exponent of all ones carries into the sign's bit. */
static bool
all_finite(const float *x, int64 n)
{
	const uint64 exponents = UINT64CONST(0x7F8000007F800000),
				ones = UINT64CONST(0x0080000000800000);
	uint64		carried = 0;

	for (int64 first = 0; first < n; first += MANY)
	{
		int64		end = Min(n, first + MANY);

		CHECK_FOR_INTERRUPTS();
		for (int64 i = first; i + 2 <= end; i += 2)
		{
			uint64		two;

			memcpy(&two, x + i, sizeof(two));
			carried |= (two & exponents) + ones;
		}
	}
	return !(carried & UINT64CONST(0x8000000080000000)) && (n % 2 == 0 || isfinite(x[n - 1]));
}

/* A learner that does not know missing values would answer NaN. */
static void
check_missing(const reg_model *m, const float *rows, int64 n)
{
	if (lrn_takes_missing(&m->loaded->lrn) || all_finite(rows, n * m->n_inputs))
		return;
	for (int64 i = 0; i < n * m->n_inputs; i++)
	{
		if (i % MANY == 0)
			CHECK_FOR_INTERRUPTS();
		if (isnan(rows[i]))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("model \"%s\" (%s) does not take missing values", m->reference, reg_kind_name(m->kind)),
					 errdetail("Number %d of row " INT64_FORMAT " is NaN.",
							   (int) (i % m->n_inputs) + 1, i / m->n_inputs + 1),
					 errhint(MISSING_HINT)));
	}
}

typedef void (*learner_call) (const lrn_model *m, const float *rows, int64_t n, float *out);

/* Run a learner over rows, in slices between which interrupts are served. */
static void
run_learner_by(learner_call call, const reg_model *m, const float *rows, int64 n, float *out)
{
	const lrn_model *l = &m->loaded->lrn;
	int64		slice = n == 1 ? 1 : Max(1, lrn_slice(l));

	reg_stat_start(m, n);
	for (int64 done = 0; done < n; done += slice)
	{
		int64		now = Min(slice, n - done);

		CHECK_FOR_INTERRUPTS();
		call(l, rows + done * m->n_inputs, now, out + done * m->n_outputs);
	}
	reg_stat_end(m, n);
}

static void
run_learner(const reg_model *m, const float *rows, int64 n, float *out)
{
	run_learner_by(lrn_predict, m, rows, n, out);
}

void
reg_class_probabilities(const reg_model *m, const float *rows, int64 n, int d, float *proba)
{
	check_classifier(m);
	reg_check_columns(m, d);
	if (m->kind == REG_ONNX)
	{
		reg_answer_rows(m, rows, n, proba);
		return;
	}
	reg_load(m);
	check_missing(m, rows, n);
	run_learner(m, rows, n, proba);
}

void
reg_classify(const reg_model *m, const float *rows, int64 n, int d,
			 int32 *label, float *confidence)
{
	bool		network = m->kind == REG_ONNX;
	int64		slice;
	int			k = m->n_labels;
	float	   *proba;

	check_classifier(m);
	reg_check_columns(m, d);
	reg_load(m);
	if (!network)
		check_missing(m, rows, n);
	slice = Min(n, n == 1 ? 1 : network ? NETWORK_SLICE : Max(1, Min(lrn_slice(&m->loaded->lrn), 4096)));
	/* a network's own work is the scratch */
	proba = network ? palloc(sizeof(float) * k * slice) : reg_scratch(sizeof(float) * k * slice);
	for (int64 done = 0; done < n; done += slice)
	{
		int64		now = Min(slice, n - done);

		if (network)
			reg_answer_rows(m, rows + done * d, now, proba);
		else
			run_learner(m, rows + done * d, now, proba);
		for (int64 r = 0; r < now; r++)
		{
			const float *p = proba + r * k;
			int			best = 0;

			for (int c = 1; c < k; c++)
				if (p[c] > p[best])
					best = c;
			label[done + r] = best;
			confidence[done + r] = p[best];
		}
	}
	if (network)
		pfree(proba);
}

float
reg_predict(const reg_model *m, const float *row, int d)
{
	nn_task		task = reg_task_of(m);
	float	   *out;
	int			best = 0;

	reg_check_columns(m, d);
	if (task != nn_task_regress && task != nn_task_cluster)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" (%s) does not predict a number", m->reference, reg_kind_name(m->kind)),
				 m->n_labels ? errhint("Use classify().") : m->kind == REG_ONNX ? reg_hint_task() : errhint("Use infer().")));
	if (m->kind == REG_ONNX)
	{
		out = palloc(sizeof(float) * m->n_outputs);
		reg_answer_rows(m, row, 1, out);
	}
	else
	{
		check_missing(m, row, 1);
		out = reg_scratch(sizeof(float) * m->n_outputs);
		run_learner(m, row, 1, out);
	}
	if (task == nn_task_regress)
		return out[0];
	for (int c = 1; c < m->n_outputs; c++)
		if (out[c] < out[best])
			best = c;
	return best;
}

void
reg_infer_learner(const reg_model *m, const float *rows, int64 n, float *out)
{
	reg_load(m);
	check_missing(m, rows, n);
	run_learner(m, rows, n, out);
}

void
reg_infer_scores(const reg_model *m, const float *rows, int64 n, float *out)
{
	reg_load(m);
	check_missing(m, rows, n);
	run_learner_by(lrn_scores, m, rows, n, out);
}

void
reg_infer_network(const reg_model *m, const nn_model *plan, int batch, const void *const *inputs,
				  void *const *outputs, nn_shape *shapes)
{
	mr_env		env = mr_pg_env(NULL);
	mr_status	st;
	mr_code		code;

	reg_stat_start(m, batch);
	code = nn_run_shaped(plan, &env, reg_scratch(nn_workspace(plan)), batch, inputs, outputs, shapes, &st);
	reg_stat_end(m, batch);
	if (code != MR_OK)
		mr_pg_raise(&st);
}

const float *
reg_floats(ArrayType *array, int max_dims, bool finite, const char *what,
		   int64 *rows, int *columns)
{
	int			ndim = ARR_NDIM(array);
	int64		n = ArrayGetNItems(ndim, ARR_DIMS(array));
	const float *values = (const float *) ARR_DATA_PTR(array);

	Assert(ARR_ELEMTYPE(array) == FLOAT4OID);
	if (ndim > max_dims)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must have %s dimension%s, not %d", what,
						max_dims == 1 ? "one" : "one or two", max_dims == 1 ? "" : "s", ndim),
				 max_dims == 1 ? errhint("millrace.classify_rows() takes many rows at once.") : 0));
	if (array_contains_nulls(array))
	{
		float	   *copy;

		if (finite)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("%s must not contain nulls", what),
					 errhint(MISSING_HINT)));
		copy = palloc_extended(n * sizeof(float), MCXT_ALLOC_HUGE);
		train_array(array, TRAIN_FLOAT4_ARRAY, copy);
		values = copy;
	}
	for (int64 i = all_finite(values, n) ? n : 0; i < n; i++)
	{
		if (i % MANY == 0)
			CHECK_FOR_INTERRUPTS();
		if (isinf(values[i]) || (finite && isnan(values[i])))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s must not contain %s", what, isinf(values[i]) ? "infinity" : "NaN"),
					 errdetail("Number " INT64_FORMAT " is %s.", i + 1, isinf(values[i]) ? "infinite" : "NaN"),
					 isinf(values[i]) ? 0 : errhint(MISSING_HINT)));
	}
	*rows = ndim == 2 ? ARR_DIMS(array)[0] : ndim > 0;
	*columns = ndim == 2 ? ARR_DIMS(array)[1] : (int) n;
	return values;
}

ArrayType *
reg_new_reals(int n, float **values)
{
	size_t		size = ARR_OVERHEAD_NONULLS(1) + sizeof(float) * (size_t) n;
	ArrayType  *array;

	if (!AllocSizeIsValid(size))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a model's answer of %d numbers does not fit an array", n)));
	array = palloc(size);
	SET_VARSIZE(array, size);
	array->ndim = 1;
	array->dataoffset = 0;
	array->elemtype = FLOAT4OID;
	ARR_DIMS(array)[0] = n;
	ARR_LBOUND(array)[0] = 1;
	*values = (float *) ARR_DATA_PTR(array);
	return array;
}
