/*
 * unigram.c
 *	  Unigram (Kudo 2018, SentencePiece): of all ways to cut a word into pieces of
 *	  the vocabulary the one with the greatest sum of log probabilities (Viterbi).
 *	  A character that no piece covers costs unknown_score.
 */
#include "text/text_int.h"

typedef struct best
{
	double		score;
	uint32_t	from;			/* where the piece that ends here begins */
	int32_t		id;				/* -2: nothing ends here */
} best;

bool
txt_unigram(const txt_tokenizer *t, txt_work *w, txt_span s)
{
	const char *data = w->text.data + s.at;
	const char *end = data + s.len;
	best	   *b = txt_scratch(w, (s.len + 1) * (sizeof(best) + sizeof(uint32_t)));
	uint32_t   *cuts = b ? (uint32_t *) (void *) (b + s.len + 1) : NULL;
	uint32_t	n_cuts = 0;

	if (b == NULL)
		return false;
	for (uint32_t i = 0; i <= s.len; i++)
		b[i].id = -2;
	b[0] = (best) {0, 0, -1};
	for (uint32_t i = 0; i < s.len;)
	{
		int			len;
		uint32_t	node = TXT_ROOT;
		bool		single = false;

		txt_decode(data + i, end, &len);
		for (uint32_t j = i; j < s.len && (node = txt_child(t, node, (unsigned char) data[j])) != 0; j++)
		{
			int32_t		id = t->node_id[node];
			double		score;

			if (id < 0)
				continue;
			score = b[i].score + t->scores[id];
			if (b[j + 1].id == -2 || score > b[j + 1].score)
				b[j + 1] = (best) {score, i, id};
			single = single || j + 1 == i + (uint32_t) len;
		}
		if (!single)
		{
			double		score = b[i].score + t->head->unknown_score;
			uint32_t	to = i + (uint32_t) len;

			if (b[to].id == -2 || score > b[to].score)
				b[to] = (best) {score, i, t->head->unknown};
		}
		if (!txt_go_on(w, 8))
			return false;
		i += (uint32_t) len;
	}
	for (uint32_t i = s.len; i > 0; i = b[i].from)
	{
		if (!txt_go_on(w, 1))
			return false;
		cuts[n_cuts++] = i;
	}
	while (n_cuts > 0)
	{
		uint32_t	to = cuts[--n_cuts],
					from = b[to].from;

		/* neighbours that are unknown are one token */
		if (b[to].id == t->head->unknown && t->head->fuse_unknown)
			while (n_cuts > 0 && b[cuts[n_cuts - 1]].id == t->head->unknown)
				to = cuts[--n_cuts];
		if (!txt_add_token(w, b[to].id, s.at + from, s.at + to))
			return false;
	}
	return true;
}
