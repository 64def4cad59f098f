/*
 * export.c
 *	  Models as ONNX: the file around what a learner writes (export.h).
 *
 * Field numbers are those of onnx.proto.  NodeProto: 1 input, 2 output, 3 name,
 * 4 op_type, 7 domain; GraphProto: 1 node, 2 name, 5 initializer, 11 input, 12
 * output; ModelProto: 1 ir_version, 2 producer_name, 3 producer_version, 5
 * model_version, 7 graph, 8 opset_import, 14 metadata_props; AttributeProto: 7
 * floats, 8 ints, 9 strings.
 */
#include "learn/export.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IR_VERSION	7			/* that of opset 13 */
#define OPSET		13
#define OPSET_ML	3

/* ---- nodes ---- */

static size_t
begin_node(lrn_export *e, const char *op, const char *out, va_list inputs)
{
	size_t		at = mr_onnx_begin(&e->w, 1);
	const char *in;

	while ((in = va_arg(inputs, const char *)) != NULL)
		mr_onnx_text(&e->w, 1, in);
	mr_onnx_text(&e->w, 2, out);
	mr_onnx_text(&e->w, 3, out);
	mr_onnx_text(&e->w, 4, op);
	return at;
}

size_t
lrn_onnx_node(lrn_export *e, const char *op, const char *out, ...)
{
	va_list		inputs;
	size_t		at;

	va_start(inputs, out);
	at = begin_node(e, op, out, inputs);
	va_end(inputs);
	return at;
}

void
lrn_onnx_op(lrn_export *e, const char *op, const char *out, ...)
{
	va_list		inputs;

	va_start(inputs, out);
	mr_onnx_end(&e->w, begin_node(e, op, out, inputs));
	va_end(inputs);
}

/* A node of one attribute. */
static void
op_with(lrn_export *e, const char *op, const char *out, const char *in, const char *more, const char *attribute, int64_t v)
{
	size_t		at = lrn_onnx_node(e, op, out, in, more, NULL);

	mr_onnx_attr_int(&e->w, attribute, v);
	mr_onnx_end(&e->w, at);
}

void
lrn_onnx_cast(lrn_export *e, const char *out, const char *in, int type)
{
	op_with(e, "Cast", out, in, NULL, "to", type);
}

void
lrn_onnx_gather(lrn_export *e, const char *out, const char *in, const char *indices, int axis)
{
	op_with(e, "Gather", out, in, indices, "axis", axis);
}

lrn_onnx_name
lrn_onnx_numbered(const char *name, int i)
{
	lrn_onnx_name n;

	snprintf(n.s, sizeof(n.s), "%s_%d", name, i);
	return n;
}

void
lrn_onnx_pair(lrn_export *e, const char *out, const char *a, const char *b)
{
	op_with(e, "Concat", out, a, b, "axis", 1);
}

/* Head of a node whose inputs or outputs stand in a list. */
static size_t
begin_list(lrn_export *e, const char *op, const char *name)
{
	size_t		at = mr_onnx_begin(&e->w, 1);

	mr_onnx_text(&e->w, 3, name);
	mr_onnx_text(&e->w, 4, op);
	return at;
}

void
lrn_onnx_join(lrn_export *e, const char *out, const char *parts, int n)
{
	size_t		at = begin_list(e, "Concat", out);

	for (int i = 0; i < n; i++)
		mr_onnx_text(&e->w, 1, lrn_onnx_numbered(parts, i).s);
	mr_onnx_text(&e->w, 2, out);
	mr_onnx_attr_int(&e->w, "axis", 1);
	mr_onnx_end(&e->w, at);
}

void
lrn_onnx_split(lrn_export *e, const char *parts, int n, const char *in, const char *sizes, int axis)
{
	size_t		at = begin_list(e, "Split", parts);

	mr_onnx_text(&e->w, 1, in);
	if (sizes)
		mr_onnx_text(&e->w, 1, sizes);
	for (int i = 0; i < n; i++)
		mr_onnx_text(&e->w, 2, lrn_onnx_numbered(parts, i).s);
	mr_onnx_attr_int(&e->w, "axis", axis);
	mr_onnx_end(&e->w, at);
}

/* ---- constants ---- */

static size_t
elements(int rank, const int64_t *dims)
{
	size_t		n = 1;

	for (int i = 0; i < rank; i++)
		n *= (size_t) dims[i];
	return n;
}

void
lrn_onnx_doubles(lrn_export *e, const char *name, int rank, const int64_t *dims, const double *v)
{
	mr_onnx_tensor(&e->w, 5, name, MR_ONNX_DOUBLE, rank, dims, v, elements(rank, dims) * sizeof(double));
}

void
lrn_onnx_floats(lrn_export *e, const char *name, int rank, const int64_t *dims, const float *v)
{
	mr_onnx_tensor(&e->w, 5, name, MR_ONNX_FLOAT, rank, dims, v, elements(rank, dims) * sizeof(float));
}

void
lrn_onnx_ints(lrn_export *e, const char *name, int64_t n, const int64_t *v)
{
	mr_onnx_tensor(&e->w, 5, name, MR_ONNX_INT64, 1, &n, v, (size_t) n * sizeof(int64_t));
}

void
lrn_onnx_double(lrn_export *e, const char *name, double v)
{
	lrn_onnx_doubles(e, name, 0, NULL, &v);
}

/* ---- margins to probabilities ---- */

void
lrn_onnx_sigmoid(lrn_export *e, const char *z, const char *out)
{
	char		exponential[64],
				sum[64],
				one[64];

	snprintf(exponential, sizeof(exponential), "%s_exp", out);
	snprintf(sum, sizeof(sum), "%s_sum", out);
	snprintf(one, sizeof(one), "%s_one", out);
	lrn_onnx_double(e, one, 1);
	lrn_onnx_op(e, "Exp", exponential, z, NULL);
	lrn_onnx_op(e, "Add", sum, exponential, one, NULL);
	lrn_onnx_op(e, "Div", out, one, sum, NULL);
}

void
lrn_onnx_two_classes(lrn_export *e, const char *margin, const char *out)
{
	lrn_onnx_double(e, "zero", 0);
	lrn_onnx_op(e, "Sub", "opposite", "zero", margin, NULL);
	lrn_onnx_sigmoid(e, margin, "first");
	lrn_onnx_sigmoid(e, "opposite", "second");
	lrn_onnx_pair(e, "both", "first", "second");
	lrn_onnx_cast(e, out, "both", MR_ONNX_FLOAT);
}

void
lrn_onnx_softmax(lrn_export *e, const char *margins, const char *out)
{
	op_with(e, "Softmax", "shares", margins, NULL, "axis", 1);
	lrn_onnx_cast(e, out, "shares", MR_ONNX_FLOAT);
}

/* ---- labels ---- */

static void
put_port(lrn_export *e, uint32_t field, const char *name, int type, int columns)
{
	const int64_t dims[2] = {0, columns};

	mr_onnx_port(&e->w, field, name, type, columns ? 2 : 1, dims, true);
}

/* The number of a row's largest or smallest score. */
static void
put_choice(lrn_export *e, const char *op, const char *scores, const char *out)
{
	size_t		at = lrn_onnx_node(e, op, out, scores, NULL);

	mr_onnx_attr_int(&e->w, "axis", 1);
	mr_onnx_attr_int(&e->w, "keepdims", 0);
	mr_onnx_end(&e->w, at);
}

/* Is it an integer as it would be written? */
static bool
is_integer(const char *s, int64_t *v)
{
	char		again[32],
			   *end;

	*v = strtoll(s, &end, 10);
	snprintf(again, sizeof(again), "%" PRId64, *v);
	return strcmp(again, s) == 0;
}

/* Positions become labels: integers if all of them are, else strings. */
static void
put_labels(lrn_export *e, const char *const *labels)
{
	int			n = e->m->info.n_classes;
	bool		integers = true;
	int64_t		v;
	size_t		node,
				at;

	for (int i = 0; labels && i < n && integers; i++)
		integers = is_integer(labels[i], &v);
	put_choice(e, "ArgMax", "probabilities", "position");
	node = lrn_onnx_node(e, "LabelEncoder", "label", "position", NULL);
	mr_onnx_text(&e->w, 7, "ai.onnx.ml");
	at = mr_onnx_attr_begin(&e->w, "keys_int64s", MR_ONNX_A_INTS);
	for (int i = 0; i < n; i++)
		mr_onnx_int(&e->w, 8, i);
	mr_onnx_end(&e->w, at);
	at = mr_onnx_attr_begin(&e->w, integers ? "values_int64s" : "values_strings", integers ? MR_ONNX_A_INTS : MR_ONNX_A_STRINGS);
	for (int i = 0; i < n; i++)
		if (!integers)
			mr_onnx_text(&e->w, 9, labels[i]);
		else
		{
			v = i;
			if (labels)
				(void) is_integer(labels[i], &v);
			mr_onnx_int(&e->w, 8, v);
		}
	mr_onnx_end(&e->w, at);
	mr_onnx_end(&e->w, node);
	put_port(e, 12, "label", integers ? MR_ONNX_INT64 : MR_ONNX_STRING, 0);
}

/* ---- the file ---- */

static mr_code
put_classifier(lrn_export *e, const lrn_about *about)
{
	const lrn_model *m = e->m;
	bool		calibrated = m->calibration.kind != LRN_CALIBRATION_NONE,
				scores = m->learner->takes & LRN_GIVES_SCORES;
	mr_code		code = m->learner->export(e, calibrated || scores ? "decision" : "probabilities");

	if (code == MR_OK && calibrated)
		code = lrn_calibration_export(e, "decision", "probabilities");
	else if (scores)
	{
		lrn_onnx_cast(e, "decision_wide", "decision", MR_ONNX_DOUBLE);
		lrn_onnx_softmax(e, "decision_wide", "probabilities");
	}
	put_labels(e, about->labels);
	put_port(e, 12, "probabilities", MR_ONNX_FLOAT, m->info.n_outputs);
	return code;
}

static mr_code
put_graph(lrn_export *e, const lrn_about *about)
{
	const lrn_info *info = &e->m->info;
	mr_code		code;

	mr_onnx_text(&e->w, 2, about->name);
	put_port(e, 11, "X", MR_ONNX_FLOAT, info->n_features);
	if (info->task == LRN_CLASSIFY)
		return put_classifier(e, about);
	if (info->task == LRN_CLUSTER)
	{
		code = e->m->learner->export(e, "scores");
		put_choice(e, "ArgMin", "scores", "label");
		put_port(e, 12, "label", MR_ONNX_INT64, 0);
		put_port(e, 12, "scores", MR_ONNX_FLOAT, info->n_outputs);
		return code;
	}
	code = e->m->learner->export(e, "variable");
	put_port(e, 12, "variable", MR_ONNX_FLOAT, info->n_outputs);
	return code;
}

mr_code
lrn_export_onnx(const mr_env *env, const uint8_t *bytes, size_t len, const lrn_model *m,
				const lrn_about *about, size_t limit, uint8_t **onnx, size_t *onnx_len, mr_status *st)
{
	lrn_export	e = {.env = env, .st = st, .m = m, .bytes = bytes, .len = len};
	mr_onnx    *w = &e.w;
	size_t		graph;
	mr_code		code;

	*onnx = NULL;
	mr_onnx_init(w, env, limit);
	mr_onnx_int(w, 1, IR_VERSION);
	mr_onnx_text(w, 2, "millrace");
	mr_onnx_text(w, 3, about->producer_version);
	mr_onnx_int(w, 5, about->version);
	graph = mr_onnx_begin(w, 7);
	code = put_graph(&e, about);
	mr_onnx_end(w, graph);
	mr_onnx_opset(w, "", OPSET);
	mr_onnx_opset(w, "ai.onnx.ml", OPSET_ML);
	for (int i = 0; i < about->n_notes; i++)
	{
		size_t		at = mr_onnx_begin(w, 14);

		mr_onnx_text(w, 1, about->notes[2 * i]);
		mr_onnx_text(w, 2, about->notes[2 * i + 1]);
		mr_onnx_end(w, at);
	}
	if (code == MR_OK)
		code = mr_onnx_code(w, st);
	if (code)
	{
		mr_free(env, w->p);
		return code;
	}
	*onnx = w->p;
	*onnx_len = w->len;
	return MR_OK;
}
