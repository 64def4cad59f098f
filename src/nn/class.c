/*
 * class.c
 *	  Shape classes: open dimensions of inputs become numbers, inputs that decide
 *	  about shapes become constants.
 *
 * A dimension that the model leaves open takes the class's number; else that of
 * another dimension of the same name; else the first one is the batch, and any
 * other a number of ours, so that a model can be looked at without a class.
 */
#include <stdio.h>
#include <string.h>

#include "nn/onnx.h"
#include "nn/ops.h"

typedef struct symbol
{
	const char *name;
	int64_t		size;			/* -1: not known */
	bool		inner;			/* stands behind the first dimension somewhere */
} symbol;

typedef struct symbols
{
	int			n;
	symbol		s[NN_MAX_PORTS * NN_MAX_RANK];
} symbols;

static symbol *
find_symbol(symbols *t, const char *name)
{
	for (int i = 0; i < t->n; i++)
		if (strcmp(t->s[i].name, name) == 0)
			return &t->s[i];
	t->s[t->n].name = name;
	t->s[t->n].size = -1;
	return &t->s[t->n++];
}

/* Where the class speaks of input i, -1: nowhere. */
static int
class_index(const nn_graph *g, const nn_class *c, int i)
{
	if (c == NULL)
		return -1;
	if (c->names == NULL)
		return i < c->n_inputs ? i : -1;
	for (int k = 0; k < c->n_inputs; k++)
		if (strcmp(c->names[k], g->values[g->inputs[i]].name) == 0)
			return k;
	return -1;
}

/* The class's shape for input i, NULL: as declared. */
static const nn_shape *
given_shape(const nn_graph *g, const nn_class *c, int i)
{
	int			k = class_index(g, c, i);

	if (k < 0 || c->shapes == NULL || c->shapes[k].rank < 0 ||
		(c->open_only && g->decls[i].shaped && g->decls[i].shape.rank != c->shapes[k].rank))
		return NULL;
	return &c->shapes[k];
}

static mr_code
check_names(const nn_graph *g, const nn_class *c)
{
	char		buf[64];

	for (int k = 0; c && c->names && k < c->n_inputs; k++)
	{
		int			i = 0;

		while (i < g->n_inputs && strcmp(c->names[k], g->values[g->inputs[i]].name) != 0)
			i++;
		if (i == g->n_inputs)
			return mr_fail(g->st, MR_INVALID, "the model has no input \"%s\"", nn_printable(c->names[k], buf));
	}
	return MR_OK;
}

/* What the class and the names say of input i; -1 where nothing is said yet. */
static mr_code
merge_input(nn_graph *g, int i, const nn_class *c, symbols *t)
{
	const nn_decl *d = &g->decls[i];
	const nn_shape *given = given_shape(g, c, i);
	nn_value   *v = &g->values[g->inputs[i]];
	char		buf[64];

	nn_printable(v->name, buf);
	if (given == NULL && !d->shaped)
		return mr_fail(g->st, MR_UNSUPPORTED, "input \"%s\" has no shape", buf);
	if (given && c->open_only && d->shaped && given->rank != d->shape.rank)
		given = NULL;
	if (given && (given->rank > NN_MAX_RANK || (d->shaped && given->rank != d->shape.rank)))
		return mr_fail(g->st, MR_INVALID, "input \"%s\" has %d dimensions, not %d", buf, d->shape.rank, given->rank);
	v->shape = d->shaped ? d->shape : *given;
	for (int k = 0; k < v->shape.rank; k++)
	{
		int64_t    *dim = &v->shape.dims[k];
		int64_t		size = given ? given->dims[k] : -1;
		symbol	   *s;

		if (given && c->open_only && d->shaped && *dim >= 0)
			size = -1;
		if (size < -1 || size > NN_MAX_DIM || (size >= 0 && d->shaped && *dim >= 0 && *dim != size))
			return mr_fail(g->st, MR_INVALID, "dimension %d of input \"%s\" is %lld, not %lld", k, buf,
						   (long long) *dim, (long long) size);
		if (size >= 0)
			*dim = size;
		if (!d->shaped || d->names[k] == NULL)
			continue;
		s = find_symbol(t, d->names[k]);
		s->inner = s->inner || k > 0;
		if (size < 0)
			continue;
		if (s->size >= 0 && s->size != size)
			return mr_fail(g->st, MR_INVALID, "dimension %d of input \"%s\", \"%.40s\", is %lld here and %lld elsewhere",
						   k, buf, s->name, (long long) size, (long long) s->size);
		s->size = size;
	}
	return MR_OK;
}

/* The value that the class fixes becomes the input's constant. */
static mr_code
bind_value(nn_graph *g, nn_value *v, const void *data)
{
	size_t		size = nn_dtype_size(v->dtype);
	int64_t		elements;
	char		buf[64];

	nn_printable(v->name, buf);
	if (v->batch || !nn_shape_elements(&v->shape, &elements) || elements > NN_MAX_BOUND)
		return mr_fail(g->st, MR_UNSUPPORTED, "the value of input \"%s\" cannot be fixed: its shape is open or too large", buf);
	v->data = nn_heap_alloc(g->heap, (size_t) elements + 1, size);
	if (v->data == NULL)
		return g->st->code;
	v->bound = true;
	if (elements)
		memcpy(v->data, data, (size_t) elements * size);
	for (int64_t k = 0; v->dtype == nn_bool && k < elements; k++)
		if (((uint8_t *) v->data)[k] > 1)
			return mr_fail(g->st, MR_INVALID, "input \"%s\" is neither true nor false", buf);
	return MR_OK;
}

mr_code
nn_bind_class(nn_graph *g, const nn_class *c)
{
	symbols    *t = nn_heap_alloc(g->heap, 1, sizeof(*t));

	if (t == NULL)
		return g->st->code;
	if (c && (c->n_inputs < 0 || c->n_inputs > g->n_inputs))
		return mr_fail(g->st, MR_INVALID, "a class of shapes has %d inputs, the model has %d", c->n_inputs, g->n_inputs);
	NN_TRY(check_names(g, c));
	for (int i = 0; i < g->n_inputs; i++)
		NN_TRY(merge_input(g, i, c, t));
	for (int i = 0; i < g->n_inputs; i++)
	{
		const nn_decl *d = &g->decls[i];
		nn_value   *v = &g->values[g->inputs[i]];
		int			at = class_index(g, c, i);

		for (int k = 0; k < v->shape.rank; k++)
		{
			const symbol *s = d->shaped && d->names[k] ? find_symbol(t, d->names[k]) : NULL;

			if (v->shape.dims[k] >= 0)
				continue;
			if (s && s->size >= 0)
				v->shape.dims[k] = s->size;
			else if (k == 0 && !(s && s->inner))
				v->batch = true;	/* nn_infer() says how many */
			else
				v->shape.dims[k] = v->shape.rank == 4 ? NN_OPEN_IMAGE : NN_OPEN_DIM;
		}
		if (at >= 0 && c->values && c->values[at])
			NN_TRY(bind_value(g, v, c->values[at]));
	}
	return MR_OK;
}

/* Is a graph input: its index, else -1. */
static int
input_index(const nn_graph *g, int value)
{
	for (int i = 0; i < g->n_inputs; i++)
		if (g->inputs[i] == value)
			return i;
	return -1;
}

/*
 * Walk back from a value.  Small inputs of integers come first: with them a
 * shape is computed; then small ones of any type (Resize's scales).
 */
int
nn_class_need(nn_graph *g, int value)
{
	bool	   *seen = nn_heap_alloc(g->heap, (size_t) g->n_values + 1, sizeof(bool));
	int		   *stack = nn_heap_alloc(g->heap, (size_t) g->n_values + 1, sizeof(int));
	int			n = 0,
				best = -1;

	if (!seen || !stack)
		return -1;
	stack[n++] = value;
	seen[value] = true;
	while (n)
	{
		int			at = stack[--n];
		const nn_value *v = &g->values[at];
		int			input = v->producer < 0 && !v->data ? input_index(g, at) : -1;
		const nn_node *from = v->producer >= 0 && !v->data ? &g->nodes[v->producer] : NULL;

		if (input >= 0 && v->elements <= NN_MAX_BOUND &&
			(best < 0 || (v->dtype != nn_float32 && g->values[g->inputs[best]].dtype == nn_float32)))
			best = input;
		for (int k = 0; from && k < from->n_in; k++)
			if (from->in[k] >= 0 && !seen[from->in[k]])
			{
				seen[from->in[k]] = true;
				stack[n++] = from->in[k];
			}
	}
	return best;
}

mr_code
nn_compile_for(const mr_env *env, const uint8_t *onnx, size_t len, const nn_options *opt,
			   int n_inputs, const nn_shape *shapes, const void *const *values,
			   uint8_t **file, size_t *file_len, mr_status *st)
{
	const void *bound[NN_MAX_PORTS] = {NULL};
	nn_class	class = {.n_inputs = n_inputs,.shapes = shapes,.values = bound};
	nn_options	options = opt ? *opt : nn_default_options;
	int			need;

	if (n_inputs > NN_MAX_PORTS)
		return mr_fail(st, MR_LIMIT, "the model has more than %d inputs", NN_MAX_PORTS);
	options.n_classes = 1;
	options.classes = &class;
	options.need = &need;
	for (;;)
	{
		mr_code		rc = nn_compile(env, onnx, len, &options, file, file_len, st);

		if (rc != MR_UNSUPPORTED || need < 0 || need >= n_inputs || bound[need] || !values[need])
			return rc;
		bound[need] = values[need];
	}
}
