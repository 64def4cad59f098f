/*
 * answer.c
 *	  What a model over rows of numbers answers: classes and their labels, a
 *	  number, distances.  Found in the graph, as skl2onnx and onnxmltools
 *	  write it.
 *
 * A classifier has two outputs: the label of a row, and scores or probabilities
 * of all classes.  Labels are read where the first comes from: attributes of a
 * classifier of ai.onnx.ml, a table that ArrayFeatureExtractor picks from, a
 * LabelEncoder behind either or behind positions, positions alone (ArgMax of the
 * second), or the keys that a ZipMap gives to the second.  The
 * label itself is not needed: it is where the scores are highest.
 *
 * Nothing here fails but for want of memory; what is not recognised has no task.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "nn/onnx.h"
#include "nn/ops.h"

#define MAX_STEPS 32			/* back from an output */

/* Labels, in the order of the scores; one of the two lists. */
typedef struct label_list
{
	int			n;
	const pb_bytes *texts;
	const int64_t *ints;
} label_list;

/* ---- walking back ---- */

static bool
is_op(const nn_node *n, const char *name)
{
	return strcmp(n->op_type, name) == 0;
}

static const nn_node *
producer_of(const nn_graph *g, int value)
{
	int			p = value < 0 ? -1 : g->values[value].producer;

	return p < 0 ? NULL : &g->nodes[p];
}

/* The node that makes a value, behind those that only pass it on. */
static const nn_node *
source_of(const nn_graph *g, int value)
{
	static const char *const passes[] = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze"};
	const nn_node *n = producer_of(g, value);

	for (int i = 0; n && i < MAX_STEPS; i++)
	{
		bool		passing = false;

		for (size_t k = 0; k < sizeof(passes) / sizeof(passes[0]); k++)
			passing = passing || is_op(n, passes[k]);
		if (!passing)
			return n;
		n = producer_of(g, n->in[0]);
	}
	return NULL;
}

/* ---- labels ---- */

static void
list_attrs(const nn_node *n, const char *texts, const char *ints, label_list *out)
{
	const nn_attr *a = nn_find_attr(n, texts);

	memset(out, 0, sizeof(*out));
	if (a && a->type == nn_attr_strings && a->n > 0)
	{
		out->texts = a->strings;
		out->n = a->n;
		return;
	}
	a = nn_find_attr(n, ints);
	if (a && a->type == nn_attr_ints && a->n > 0)
	{
		out->ints = a->ints;
		out->n = a->n;
	}
}

/* A constant list of labels. */
static void
list_table(const nn_graph *g, int value, label_list *out)
{
	const nn_value *v = &g->values[value];

	memset(out, 0, sizeof(*out));
	if (v->data == NULL || v->elements < 1 || v->elements > INT32_MAX || v->dtype != nn_int64)
		return;
	if (v->declared != nn_string)
		out->ints = v->data;
	else if (v->elements == g->n_texts)
		out->texts = g->texts;
	out->n = out->ints || out->texts ? (int) v->elements : 0;
}

static mr_code list_labels(nn_graph *g, int value, label_list *out);

/* Labels behind a LabelEncoder: the names of those before it, else (positions
 * come in) its values, if its keys are 0, 1, ... */
static mr_code
list_encoded(nn_graph *g, const nn_node *n, label_list *out)
{
	label_list	inner,
				keys,
				values;
	pb_bytes   *texts;
	int64_t    *ints;

	memset(out, 0, sizeof(*out));
	list_attrs(n, "", "keys_int64s", &keys);
	list_attrs(n, "values_strings", "values_int64s", &values);
	if (keys.n == 0 || values.n != keys.n)
		return MR_OK;
	NN_TRY(list_labels(g, n->in[0], &inner));
	texts = nn_heap_alloc(g->heap, (size_t) (inner.n + keys.n), sizeof(*texts));
	ints = nn_heap_alloc(g->heap, (size_t) (inner.n + keys.n), sizeof(*ints));
	if (texts == NULL || ints == NULL)
		return g->st->code;
	out->n = inner.n ? inner.n : keys.n;
	for (int i = 0; i < out->n; i++)
	{
		/* strings run as their positions */
		int64_t		before = inner.ints ? inner.ints[i] : i;
		int			k = 0;

		while (k < keys.n && keys.ints[k] != before)
			k++;
		if (k == keys.n)
		{
			memset(out, 0, sizeof(*out));
			return MR_OK;
		}
		if (values.texts)
			texts[i] = values.texts[k];
		else
			ints[i] = values.ints[k];
	}
	out->texts = values.texts ? texts : NULL;
	out->ints = values.texts ? NULL : ints;
	return MR_OK;
}

/* Classes that have no names but their positions. */
static mr_code
list_positions(nn_graph *g, int64_t n, label_list *out)
{
	int64_t    *ints = n < 1 || n > INT32_MAX ? NULL : nn_heap_alloc(g->heap, (size_t) n, sizeof(*ints));

	if (ints == NULL)
		return n < 1 || n > INT32_MAX ? MR_OK : g->st->code;
	for (int64_t i = 0; i < n; i++)
		ints[i] = i;
	out->ints = ints;
	out->n = (int) n;
	return MR_OK;
}

/* What a value that is a label may be; n = 0: no label, as far as one can see. */
static mr_code
list_labels(nn_graph *g, int value, label_list *out)
{
	const nn_node *n = source_of(g, value);

	memset(out, 0, sizeof(*out));
	if (n == NULL)
		return MR_OK;
	if (is_op(n, "TreeEnsembleClassifier") || is_op(n, "SVMClassifier") || is_op(n, "LinearClassifier"))
		list_attrs(n, "classlabels_strings", is_op(n, "TreeEnsembleClassifier") ? "classlabels_int64s" : "classlabels_ints", out);
	else if (is_op(n, "ArrayFeatureExtractor") || is_op(n, "Gather"))
		list_table(g, n->in[0], out);
	else if (is_op(n, "LabelEncoder"))
		return list_encoded(g, n, out);
	else if (is_op(n, "ArgMax") && nn_is_output(g, n->in[0]))
		return list_positions(g, g->values[n->in[0]].elements, out);
	return MR_OK;
}

static mr_code
copy_labels(nn_graph *g, const label_list *list, nn_answer *out)
{
	out->labels = mr_alloc(g->env, (size_t) list->n * sizeof(char *));
	if (out->labels == NULL)
		return mr_fail(g->st, MR_NOMEM, "out of memory");
	for (; out->n_labels < list->n; out->n_labels++)
	{
		size_t		size = list->texts ? list->texts[out->n_labels].len + 1 : 24;
		char	   *s = mr_alloc(g->env, size);

		if (s == NULL)
			return mr_fail(g->st, MR_NOMEM, "out of memory");
		if (list->texts)
		{
			memcpy(s, list->texts[out->n_labels].p, size - 1);
			s[size - 1] = '\0';
		}
		else
			snprintf(s, size, "%" PRId64, list->ints[out->n_labels]);
		out->labels[out->n_labels] = s;
	}
	return MR_OK;
}

/* At least two, and text. */
static bool
good_labels(const label_list *list)
{
	for (int i = 0; list->texts && i < list->n; i++)
		if (!nn_onnx_utf8(list->texts[i]))
			return false;
	return list->n >= 2;
}

/* ---- tasks ---- */

/* The output that has the scores: as many numbers as labels, else one for two
 * classes; "probabilities" before others.  -1: there is none. */
static int
find_scores(const nn_summary *s, int n_labels)
{
	int			found = -1;

	for (int pass = 0; pass < 2 && found < 0; pass++)
		for (int i = 0; i < s->n_outputs && (pass == 0 || n_labels == 2); i++)
		{
			const nn_tensor_info *t = &s->outputs[i];

			if (t->dtype != nn_float32 || t->rank != 2 || t->elements != (pass ? 1 : n_labels))
				continue;
			if (found < 0 || (strstr(t->name, "prob") && !strstr(s->outputs[found].name, "prob")))
				found = i;
		}
	return found;
}

static mr_code
find_classes(nn_graph *g, nn_summary *s)
{
	nn_answer  *a = &s->answer;
	label_list	list;

	for (int i = 0; i < g->n_outputs; i++)
	{
		const nn_node *n = source_of(g, g->outputs[i]);

		if (n == NULL || !is_op(n, "ZipMap"))
			continue;
		list_attrs(n, "classlabels_strings", "classlabels_int64s", &list);
		if (!good_labels(&list) || s->outputs[i].elements != list.n)
			continue;
		a->task = nn_task_classify;
		a->output = i;
		return copy_labels(g, &list, a);
	}
	for (int i = 0; i < g->n_outputs; i++)
	{
		int			scores;

		if (s->outputs[i].dtype == nn_float32 || s->outputs[i].elements != 1)
			continue;
		NN_TRY(list_labels(g, g->outputs[i], &list));
		scores = good_labels(&list) ? find_scores(s, list.n) : -1;
		if (scores < 0)
			continue;
		a->task = nn_task_classify;
		a->output = scores;
		return copy_labels(g, &list, a);
	}
	return MR_OK;
}

/* The number of the nearest centre, and the distances. */
static void
find_clusters(const nn_graph *g, nn_summary *s)
{
	for (int i = 0; i < g->n_outputs && s->n_outputs == 2; i++)
	{
		const nn_node *n = source_of(g, g->outputs[i]);
		const nn_tensor_info *distances = &s->outputs[1 - i];

		if (n && is_op(n, "ArgMin") && s->outputs[i].elements == 1 && distances->dtype == nn_float32 &&
			distances->rank == 2 && distances->elements == g->values[n->in[0]].elements)
		{
			s->answer.task = nn_task_cluster;
			s->answer.output = 1 - i;
		}
	}
}

mr_code
nn_find_answer(nn_graph *g, nn_summary *s)
{
	memset(&s->answer, 0, sizeof(s->answer));
	/* Tables of rows; several of them are groups of columns, of known widths. */
	for (int i = 0; i < s->n_inputs; i++)
		if (s->inputs[i].rank < 1 || s->inputs[i].rank > 2 ||
			(s->n_inputs > 1 && s->inputs[i].rank == 2 && s->inputs[i].declared[1] < 1))
			return MR_OK;
	nn_count_uses(g);
	NN_TRY(find_classes(g, s));
	if (s->answer.task == nn_task_none)
		find_clusters(g, s);
	if (s->answer.task == nn_task_none && s->n_outputs == 1 && s->outputs[0].dtype == nn_float32 &&
		s->outputs[0].rank >= 1 && s->outputs[0].rank <= 2 && s->outputs[0].elements == 1)
		s->answer.task = nn_task_regress;
	return MR_OK;
}
