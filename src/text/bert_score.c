/*
 * bert_score.c
 *	  BERTScore of token vectors.  See bert_score.h.
 *
 * Nothing is allocated: all memory is the caller's.
 */
#include "text/bert_score.h"

#include <math.h>
#include <string.h>

#include "text/text_int.h"

/* Multiplications between two looks for interrupts: about a millisecond. */
#define STRIP_WORK (16 << 20)

void
txt_score_normalize(const float *hidden, int n, int width, float *rows)
{
	int			stride = txt_score_stride(width);

	for (int i = 0; i < n; i++)
	{
		const float *x = hidden + (size_t) i * width;
		float	   *y = rows + (size_t) i * stride;
		double		lane[8] = {0};
		double		sum;
		float		length;
		int			k = 0;

		for (; k + 8 <= width; k += 8)
			for (int j = 0; j < 8; j++)
				lane[j] += (double) x[k + j] * x[k + j];
		for (; k < width; k++)
			lane[k % 8] += (double) x[k] * x[k];
		sum = ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
		length = sum > 0 ? (float) sqrt(sum) : 1;
		for (k = 0; k < width; k++)
			y[k] = x[k] / length;
		for (; k < stride; k++)
			y[k] = 0;
	}
}

bool
txt_score_weights(const txt_token *token, int n, const txt_idf *idf, float *weight)
{
	/* What the template adds stands for no bytes: at most a token at each end. */
	bool		before = n > 0 && token[0].start == token[0].end;
	bool		after = n > 1 && token[n - 1].start == token[n - 1].end;
	double		sum = 0;

	for (int i = 0; i < n; i++)
	{
		int32_t		id = token[i].id;

		if (idf)
			weight[i] = id < idf->n ? idf->weight[id] : idf->unseen;
		else
			weight[i] = !(before && id == token[0].id) && !(after && id == token[n - 1].id);
		sum += weight[i];
	}
	for (int i = 0; i < n && sum > 0; i++)
		weight[i] = (float) (weight[i] / sum);
	return n == before + after;
}

static txt_match_fn
match_of(nn_isa isa)
{
#if defined(__x86_64__)
	if (isa >= nn_isa_avx512)
		return txt_match_avx512;
	if (isa == nn_isa_avx2)
		return txt_match_avx2;
#endif
	return txt_match_portable;
}

static double
weighted(const float *best, const float *weight, int n)
{
	double		sum = 0;

	for (int i = 0; i < n; i++)
		sum += (double) best[i] * weight[i];
	return sum;
}

mr_code
txt_score_pair(const mr_env *env, nn_isa isa, const txt_vectors *candidate, const txt_vectors *reference,
			   int stride, float *best, txt_score *out, mr_status *st)
{
	int			na = candidate->n,
				nb = reference->n;
	float	   *a_best = best,
			   *b_best = best + na;
	int64_t		row_work = (int64_t) (nb > 0 ? nb : 1) * stride;
	int			strip = row_work < STRIP_WORK / 4 ? (int) (STRIP_WORK / row_work) & ~3 : 4;
	double		p,
				r,
				f;

	*out = (txt_score) {0, 0, 0};
	if (candidate->empty || reference->empty)
		return MR_OK;
	memset(best, 0, (size_t) (na + nb) * sizeof(float));
	for (int i = 0; i < na; i += strip)
	{
		if (mr_interrupted(env))
			return mr_fail(st, MR_CANCELED, "canceled");
		match_of(isa) (candidate->rows + (size_t) i * stride, na - i < strip ? na - i : strip, reference->rows, nb,
					   stride, a_best + i, b_best);
	}
	p = weighted(a_best, candidate->weight, na);
	r = weighted(b_best, reference->weight, nb);
	f = 2 * p * r / (p + r);
	*out = (txt_score) {(float) p, (float) r, isfinite(f) ? (float) f : 0};
	return MR_OK;
}

txt_score
txt_score_rescale(txt_score score, const txt_score *baseline)
{
	return (txt_score) {
		(score.precision - baseline->precision) / (1 - baseline->precision),
			(score.recall - baseline->recall) / (1 - baseline->recall),
			(score.f1 - baseline->f1) / (1 - baseline->f1)
	};
}

txt_score
txt_score_best(txt_score a, txt_score b)
{
	return (txt_score) {fmaxf(a.precision, b.precision), fmaxf(a.recall, b.recall), fmaxf(a.f1, b.f1)};
}

/* str.isspace(): White_Space and the four separators of ASCII. */
static bool
is_python_space(int32_t c)
{
	return txt_is_space(c) || (c >= 0x1c && c <= 0x1f);
}

void
txt_strip(const char *text, size_t len, size_t *start, size_t *end)
{
	size_t		from = 0,
				to = len;
	int			n;

	while (from < to && is_python_space(txt_decode(text + from, text + to, &n)))
		from += n;
	while (to > from)
	{
		size_t		last = to - 1;

		while (last > from && to - last < 4 && (text[last] & 0xc0) == 0x80)
			last--;
		if (!is_python_space(txt_decode(text + last, text + to, &n)) || last + n != to)
			break;
		to = last;
	}
	*start = from;
	*end = to;
}
