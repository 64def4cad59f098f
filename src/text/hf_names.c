/*
 * hf_names.c
 *	  Where each family keeps its tensors, and of which shape they must be.
 *
 * Models that were saved with a head (masked words, classes) have the encoder's
 * tensors under a prefix; the head's are not looked at.
 */
#include "text/hf_int.h"

#include <stdio.h>

#define NAME_SIZE 128

/* Below the prefix; a layer's below "layers" and its number. */
typedef struct names
{
	const char *prefix;			/* of a model with a head */
	const char *layers;
	const char *query,
			   *key,
			   *value,
			   *attended,
			   *attended_norm,
			   *up,
			   *down,
			   *norm;
} names;

static const names bert_names = {
	"bert.", "encoder.layer", "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
	"attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"
};
static const names roberta_names = {
	"roberta.", "encoder.layer", "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
	"attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"
};
static const names distilbert_names = {
	"distilbert.", "transformer.layer", "attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin",
	"sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm"
};
static const names mpnet_names = {
	"mpnet.", "encoder.layer", "attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o",
	"attention.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"
};

typedef struct search
{
	txt_folder *f;
	txt_tensors tensors;
	const char *prefix;			/* of this file: the family's or "" */
} search;

/* ---- one tensor ---- */

/* Its numbers are finite: an infinite one would make every vector NaN. */
static bool
check_numbers(search *s, const char *name, const txt_named_tensor *t)
{
	const char *p = t->tensor.data;
	uint64_t	n = t->end - t->begin;
	uint16_t	exponent = t->tensor.dtype == nn_float16 ? 0x7c00 : 0x7f80;
	size_t		step = t->tensor.dtype == nn_float32 ? 4 : 2;
	bool		bad = false;

	/* of a little-endian float32 the upper half is a bfloat16 */
	for (uint64_t i = 0; i < n;)
	{
		uint64_t	stop = n - i > (1 << 20) ? i + (1 << 20) : n;

		for (; i < stop; i += step)
		{
			uint16_t	upper;

			memcpy(&upper, p + i + step - 2, 2);
			bad |= (upper & exponent) == exponent;
		}
		if (mr_interrupted(s->f->env))
		{
			mr_fail(s->f->st, MR_CANCELED, "canceled");
			return false;
		}
	}
	if (bad)
	{
		mr_fail(s->f->st, MR_INVALID, "tensor \"%s\" has a number that is not finite", name);
		return txt_in_file(s->f, t->file);
	}
	return true;
}

/* "30522, 384" */
static const char *
shape_text(int rank, const int64_t *dims, char *out, size_t size)
{
	size_t		len = 0;

	out[0] = '\0';
	for (int i = 0; i < rank && i < 4 && len < size; i++)
		len += (size_t) snprintf(out + len, size - len, "%s%lld", i ? ", " : "", (long long) dims[i]);
	return out;
}

/* Name of s->prefix and name; fallback (NULL: none) is one that old files have.  columns 0: a vector. */
static bool
take(search *s, const char *name, const char *fallback, int64_t rows, int64_t columns, txt_tensor *out)
{
	char		full[NAME_SIZE];
	int			rank = columns ? 2 : 1;
	const int64_t dims[] = {rows, columns};
	char		wanted[64],
				found[128];
	const txt_named_tensor *t;

	snprintf(full, sizeof(full), "%s%s", s->prefix, name);
	t = txt_tensors_find(&s->tensors, full);
	if (t == NULL && fallback)
	{
		snprintf(full, sizeof(full), "%s%s", s->prefix, fallback);
		t = txt_tensors_find(&s->tensors, full);
		snprintf(full, sizeof(full), "%s%s", s->prefix, name);
	}
	if (t == NULL)
		mr_fail(s->f->st, MR_INVALID, "the model's files have no tensor \"%s\"", full);
	else if (t->tensor.dtype == nn_none)
	{
		mr_fail(s->f->st, MR_UNSUPPORTED, "tensor \"%s\" is of type %.80s, and must be F32, F16 or BF16", full, t->type);
		txt_in_file(s->f, t->file);
	}
	else if (t->tensor.rank != rank || t->tensor.dims[0] != rows || (columns && t->tensor.dims[1] != columns))
	{
		mr_fail(s->f->st, MR_INVALID, "tensor \"%s\" does not have the shape that config.json tells", full);
		txt_in_file(s->f, t->file);
		mr_detail(s->f->st, "It is [%s] and should be [%s].", shape_text(t->tensor.rank, t->tensor.dims, found, sizeof(found)),
				  shape_text(rank, dims, wanted, sizeof(wanted)));
	}
	else
	{
		*out = t->tensor;
		s->f->hf->info.n_parameters += rows * (columns ? columns : 1);
		return check_numbers(s, full, t);
	}
	return false;
}

static bool
take_linear(search *s, const char *name, int64_t out, int64_t in, txt_linear *l)
{
	char		weight[NAME_SIZE],
				bias[NAME_SIZE];

	snprintf(weight, sizeof(weight), "%s.weight", name);
	snprintf(bias, sizeof(bias), "%s.bias", name);
	return take(s, weight, NULL, out, in, &l->weight) && take(s, bias, NULL, out, 0, &l->bias);
}

/* LayerNorm; before 2019 its numbers were called gamma and beta. */
static bool
take_norm(search *s, const char *name, txt_tensor *scale, txt_tensor *shift)
{
	char		weight[NAME_SIZE],
				bias[NAME_SIZE],
				gamma[NAME_SIZE],
				beta[NAME_SIZE];
	int64_t		n = s->f->hf->info.hidden;

	snprintf(weight, sizeof(weight), "%s.weight", name);
	snprintf(bias, sizeof(bias), "%s.bias", name);
	snprintf(gamma, sizeof(gamma), "%s.gamma", name);
	snprintf(beta, sizeof(beta), "%s.beta", name);
	return take(s, weight, gamma, n, 0, scale) && take(s, bias, beta, n, 0, shift);
}

/* ---- the network ---- */

static bool
take_layer(search *s, const names *names, int i, txt_layer *l)
{
	int64_t		hidden = s->f->hf->info.hidden,
				intermediate = s->f->hf->info.intermediate;
	const struct
	{
		const char *name;
		int64_t		out,
					in;
		txt_linear *to;
	}			linear[] = {
		{names->query, hidden, hidden, &l->query}, {names->key, hidden, hidden, &l->key},
		{names->value, hidden, hidden, &l->value}, {names->attended, hidden, hidden, &l->attended},
		{names->up, intermediate, hidden, &l->up}, {names->down, hidden, intermediate, &l->down},
	};
	char		name[NAME_SIZE / 2];

	for (size_t k = 0; k < sizeof(linear) / sizeof(linear[0]); k++)
	{
		snprintf(name, sizeof(name), "%s.%d.%s", names->layers, i, linear[k].name);
		if (!take_linear(s, name, linear[k].out, linear[k].in, linear[k].to))
			return false;
	}
	snprintf(name, sizeof(name), "%s.%d.%s", names->layers, i, names->attended_norm);
	if (!take_norm(s, name, &l->attended_scale, &l->attended_shift))
		return false;
	snprintf(name, sizeof(name), "%s.%d.%s", names->layers, i, names->norm);
	return take_norm(s, name, &l->scale, &l->shift);
}

static bool
take_all(search *s, const names *names)
{
	txt_hf	   *hf = s->f->hf;
	const txt_encoder_info *info = &hf->info;

	if (!take(s, "embeddings.word_embeddings.weight", NULL, info->vocabulary, info->hidden, &hf->words) ||
		!take(s, "embeddings.position_embeddings.weight", NULL, hf->positions.dims[0], info->hidden, &hf->positions) ||
		(hf->types.dims[0] > 0 &&
		 !take(s, "embeddings.token_type_embeddings.weight", NULL, hf->types.dims[0], info->hidden, &hf->types)) ||
		!take_norm(s, "embeddings.LayerNorm", &hf->scale, &hf->shift) ||
		(hf->relative.dims[0] > 0 &&
		 !take(s, "encoder.relative_attention_bias.weight", NULL, hf->relative.dims[0], info->heads, &hf->relative)))
		return false;
	for (int i = 0; i < info->layers; i++)
		if (!take_layer(s, names, i, &hf->layer[i]))
			return false;
	return true;
}

bool
txt_read_tensors(txt_folder *f)
{
	static const names *const by_family[] = {
		[txt_bert] = &bert_names,
		[txt_distilbert] = &distilbert_names,
		[txt_roberta] = &roberta_names,
		[txt_mpnet] = &mpnet_names,
	};
	const names *names = by_family[f->hf->info.family];
	search		s = {.f = f, .prefix = ""};
	char		name[NAME_SIZE];
	bool		good = txt_tensors_open(f, &s.tensors);

	snprintf(name, sizeof(name), "%sembeddings.word_embeddings.weight", names->prefix);
	if (good && txt_tensors_find(&s.tensors, name))
		s.prefix = names->prefix;
	good = good && take_all(&s, names);
	txt_tensors_free(f->env, &s.tensors);
	return good;
}
