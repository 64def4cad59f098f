/*
 * split.c
 *	  Splitters: normalized text into words.  Each takes the words of the one
 *	  before and adds its own to other_span, then the two lists change places.
 */
#include "text/text_int.h"

typedef enum side
{
	SIDE_DROPPED,				/* between words */
	SIDE_ALONE,					/* a word by itself */
	SIDE_A,						/* of a run of its kind */
	SIDE_B
} side;

static side
classify(int op, int32_t c)
{
	switch (op)
	{
		case TXT_SPLIT_BERT:
			return txt_is_space(c) ? SIDE_DROPPED : txt_is_punctuation(c) ? SIDE_ALONE : SIDE_A;
		case TXT_SPLIT_SPACE:
			return txt_is_space(c) ? SIDE_DROPPED : SIDE_A;
		case TXT_SPLIT_WORDS:
			return txt_is_space(c) ? SIDE_DROPPED : txt_is_word(c) ? SIDE_A : SIDE_B;
		case TXT_SPLIT_PUNCTUATION:
			return txt_is_punctuation(c) ? SIDE_ALONE : SIDE_A;
		default:				/* TXT_SPLIT_DIGITS */
			return txt_is_number(c) ? SIDE_ALONE : SIDE_A;
	}
}

/* Of ASCII, for speed; made when first used would need a lock, so by hand for the one that counts. */
static inline side
classify_bert_ascii(unsigned char c)
{
	if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z'))
		return SIDE_A;
	return c == ' ' || (c >= 9 && c <= 13) ? SIDE_DROPPED : c > 32 && c < 127 ? SIDE_ALONE : SIDE_A;
}

static bool
by_class(txt_work *w, int op, txt_span s)
{
	const char *data = w->text.data;
	size_t		end = (size_t) s.at + s.len,
				begin = s.at;
	side		was = SIDE_DROPPED;

	for (size_t i = s.at; i < end;)
	{
		unsigned char byte = (unsigned char) data[i];
		int			len = 1;
		side		is;

		if (op == TXT_SPLIT_BERT && byte < 0x80)
			is = classify_bert_ascii(byte);
		else
			is = classify(op, txt_decode(data + i, data + end, &len));
		if (is != was || is == SIDE_ALONE)
		{
			if (was != SIDE_DROPPED && !txt_add_span(w, begin, i - begin))
				return false;
			begin = i;
			was = is;
		}
		if (!txt_go_on(w, 1))
			return false;
		i += (size_t) len;
	}
	return was == SIDE_DROPPED || txt_add_span(w, begin, end - begin);
}

/*
 * SentencePiece's spaces: each becomes a visible mark, one goes before the text,
 * and words begin with it.  Rewrites the words' text.
 */
static bool
metaspace(txt_work *w, const txt_step *s, bool first)
{
	const txt_buffer *in = &w->text;
	txt_buffer *out = &w->other,
				done;

	out->len = 0;
	for (size_t k = 0; k < w->n_spans; k++)
	{
		size_t		at = w->span[k].at,
					end = at + w->span[k].len,
					word = out->len;
		bool		marked = in->data[at] == ' ' ||
			(end - at >= s->a_len && memcmp(in->data + at, s->a, s->a_len) == 0);

		if (!txt_room(w, out, (end - at + 1) * s->a_len))
			return false;
		if ((s->flag & TXT_SPACE_BEFORE) && !marked && (!(s->flag & TXT_FIRST_ONLY) || (first && k == 0 && in->from[at] == 0)))
			for (int i = 0; i < s->a_len; i++)
				txt_put_byte(out, s->a[i], in->from[at], in->to[at]);
		for (size_t i = at; i < end; i++)
		{
			bool		mark = in->data[i] == ' ' || (end - i >= s->a_len && memcmp(in->data + i, s->a, s->a_len) == 0);

			if (!txt_go_on(w, 1))
				return false;
			if (mark && (s->flag & TXT_SPLIT) && out->len > word)
			{
				if (!txt_add_span(w, word, out->len - word))
					return false;
				word = out->len;
			}
			if (in->data[i] == ' ')
				for (int b = 0; b < s->a_len; b++)
					txt_put_byte(out, s->a[b], in->from[i], in->to[i]);
			else
				txt_put_byte(out, in->data[i], in->from[i], in->to[i]);
		}
		if (!txt_add_span(w, word, out->len - word))
			return false;
	}
	done = w->text;
	w->text = w->other;
	w->other = done;
	return true;
}

/* A space before the text, as byte-level tokenizers may want it. */
static bool
space_before(txt_work *w)
{
	txt_buffer *b = &w->text;

	if (b->len == 0 || b->data[0] == ' ')
		return true;
	if (!txt_room(w, b, 1))
		return false;
	memmove(b->data + 1, b->data, b->len);
	memmove(b->from + 1, b->from, b->len * sizeof(uint32_t));
	memmove(b->to + 1, b->to, b->len * sizeof(uint32_t));
	b->data[0] = ' ';
	b->to[0] = b->from[0];
	b->len++;
	w->span[0].len++;
	return true;
}

bool
txt_split(const txt_tokenizer *t, txt_work *w, bool first)
{
	w->n_other_spans = 0;
	if (!txt_add_span(w, 0, w->text.len))
		return false;
	for (uint32_t i = 0;; i++)
	{
		const txt_step *s = &t->head->split[i];
		txt_span   *spans = w->span;
		size_t		size = w->spans_size;

		w->span = w->other_span;
		w->spans_size = w->other_spans_size;
		w->n_spans = w->n_other_spans;
		w->other_span = spans;
		w->other_spans_size = size;
		w->n_other_spans = 0;
		if (i == t->head->n_split)
			return true;
		if (s->op == TXT_METASPACE)
		{
			if (!metaspace(w, s, first))
				return false;
			continue;
		}
		if (s->op == TXT_SPLIT_BYTES && (s->flag & TXT_SPACE_BEFORE) && w->n_spans == 1 && !space_before(w))
			return false;
		for (size_t k = 0; k < w->n_spans; k++)
			if (!(s->op == TXT_SPLIT_BYTES ?
				  (s->flag & TXT_PATTERN ? txt_split_bytes(w, &w->span[k]) : txt_add_span(w, w->span[k].at, w->span[k].len)) :
				  by_class(w, s->op, w->span[k])))
				return false;
	}
}
