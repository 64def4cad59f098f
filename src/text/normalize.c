/*
 * normalize.c
 *	  Normalizers: each reads w->text and writes w->other, then they change places.
 */
#include "text/text_int.h"

static bool
copy(txt_work *w, size_t at, size_t len)
{
	txt_buffer *out = &w->other;

	if (!txt_room(w, out, len))
		return false;
	memcpy(out->data + out->len, w->text.data + at, len);
	memcpy(out->from + out->len, w->text.from + at, len * sizeof(uint32_t));
	memcpy(out->to + out->len, w->text.to + at, len * sizeof(uint32_t));
	out->len += len;
	return true;
}

/* ---- BertNormalizer: clean, space CJK, decompose and drop marks, lower ---- */

static void
put_lower(txt_buffer *out, int32_t c, int flag, uint32_t from, uint32_t to)
{
	int32_t		lower[2] = {c};
	int			n = flag & TXT_LOWER ? txt_lower(c, lower) : 1;

	for (int i = 0; i < n; i++)
		txt_put(out, lower[i], from, to);
}

/*
 * A character that is not ASCII.  Decomposed and without nonspacing marks what is
 * left of a mark's order are the few spacing marks with a class: they keep the
 * order of the text, as next to all text has them.
 */
static bool
bert_character(txt_work *w, int32_t c, int flag, uint32_t from, uint32_t to)
{
	txt_buffer *out = &w->other;
	int32_t		codes[TXT_MAX_DECOMPOSED];
	int			n;

	if (!txt_room(w, out, 4 * 2 * TXT_MAX_DECOMPOSED + 2))
		return false;
	if (flag & TXT_CLEAN)
	{
		if (c == 0xfffd || txt_is_control(c))
			return true;
		if (txt_is_space(c))
		{
			txt_put_byte(out, ' ', from, to);
			return true;
		}
	}
	if ((flag & TXT_CHINESE) && txt_is_chinese(c))
	{
		txt_put_byte(out, ' ', from, to);
		n = flag & TXT_ACCENTS ? txt_decompose(c, false, codes) : 0;
		put_lower(out, n == 1 ? codes[0] : c, flag, from, to);
		txt_put_byte(out, ' ', from, to);
		return true;
	}
	if (!(flag & TXT_ACCENTS))
	{
		put_lower(out, c, flag, from, to);
		return true;
	}
	n = txt_decompose(c, false, codes);
	for (int i = 0; i < n; i++)
		if (!txt_is_nonspacing(codes[i]))
			put_lower(out, codes[i], flag, from, to);
	return true;
}

static bool
bert(txt_work *w, int flag)
{
	const txt_buffer *in = &w->text;
	txt_buffer *out = &w->other;
	const char *end = in->data + in->len;

	for (size_t i = 0; i < in->len;)
	{
		size_t		ascii = i;
		int			len;
		int32_t		c;

		/* a run of ASCII grows nowhere */
		while (ascii < in->len && ascii - i < 4096 && (unsigned char) in->data[ascii] < 0x80)
			ascii++;
		if (!txt_room(w, out, ascii - i) || !txt_go_on(w, (uint32_t) (ascii - i) + 1))
			return false;
		for (; i < ascii; i++)
		{
			char		a = in->data[i];

			if (flag & TXT_CLEAN)
			{
				if (a == '\t' || a == '\n' || a == '\r')
					a = ' ';
				else if (a < 0x20 || a == 0x7f)
					continue;
			}
			if ((flag & TXT_LOWER) && a >= 'A' && a <= 'Z')
				a = (char) (a + 32);
			txt_put_byte(out, a, in->from[i], in->to[i]);
		}
		if (i >= in->len || (unsigned char) in->data[i] < 0x80)
			continue;
		c = txt_decode(in->data + i, end, &len);
		if (!bert_character(w, c, flag, in->from[i], in->to[i]))
			return false;
		i += (size_t) len;
	}
	return true;
}

/* ---- the small ones ---- */

static bool
by_character(txt_work *w, int op)
{
	const txt_buffer *in = &w->text;

	for (size_t i = 0; i < in->len;)
	{
		int			len;
		int32_t		c = txt_decode(in->data + i, in->data + in->len, &len);

		if (!txt_room(w, &w->other, 8) || !txt_go_on(w, 1))
			return false;
		if (op == TXT_LOWERCASE)
			put_lower(&w->other, c, TXT_LOWER, in->from[i], in->to[i]);
		else if (!txt_is_mark(c))
			txt_put(&w->other, c, in->from[i], in->to[i]);
		i += (size_t) len;
	}
	return true;
}

static bool
strip(txt_work *w, int flag)
{
	const txt_buffer *in = &w->text;
	size_t		begin = 0,
				end = 0;
	bool		seen = false;

	for (size_t i = 0; i < in->len;)
	{
		int			len;
		bool		space = txt_is_space(txt_decode(in->data + i, in->data + in->len, &len));

		if (!txt_go_on(w, 1))
			return false;
		i += (size_t) len;
		if (space && !seen && (flag & TXT_LEFT))
			begin = i;
		if (!space || !(flag & TXT_RIGHT))
			end = i;
		seen = seen || !space;
	}
	return begin >= end || copy(w, begin, end - begin);
}

static bool
replace(txt_work *w, const txt_step *s)
{
	const txt_buffer *in = &w->text;

	for (size_t i = 0; i < in->len;)
	{
		size_t		n = 0;

		while (i + n + s->a_len <= in->len && memcmp(in->data + i + n, s->a, s->a_len) == 0)
		{
			n += s->a_len;
			if (!(s->flag & TXT_REPEATED))
				break;
		}
		if (!txt_go_on(w, 1))
			return false;
		if (n < s->a_len * (s->flag & TXT_REPEATED ? 2u : 1u))
		{
			if (!copy(w, i, 1))
				return false;
			i++;
			continue;
		}
		if (!txt_room(w, &w->other, s->b_len))
			return false;
		for (int k = 0; k < s->b_len; k++)
			txt_put_byte(&w->other, s->b[k], in->from[i], in->to[i + n - 1]);
		i += n;
	}
	return true;
}

static bool
prepend(txt_work *w, const txt_step *s)
{
	const txt_buffer *in = &w->text;

	if (in->len == 0)
		return true;
	if (!txt_room(w, &w->other, s->a_len))
		return false;
	for (int k = 0; k < s->a_len; k++)
		txt_put_byte(&w->other, s->a[k], in->from[0], in->from[0]);
	return copy(w, 0, in->len);
}

bool
txt_normalize(const txt_tokenizer *t, txt_work *w)
{
	for (uint32_t i = 0; i < t->head->n_normalize; i++)
	{
		const txt_step *s = &t->head->normalize[i];
		txt_buffer	done;
		bool		good = false;

		w->other.len = 0;
		if (!txt_room(w, &w->other, w->text.len))
			return false;
		switch ((txt_op) s->op)
		{
			case TXT_BERT:
				good = bert(w, s->flag);
				break;
			case TXT_NORMAL_FORM:
				good = txt_normal_form(w, s->flag);
				break;
			case TXT_LOWERCASE:
			case TXT_NO_ACCENTS:
				good = by_character(w, s->op);
				break;
			case TXT_STRIP:
				good = strip(w, s->flag);
				break;
			case TXT_REPLACE:
				good = replace(w, s);
				break;
			case TXT_PREPEND:
				good = prepend(w, s);
				break;
			case TXT_CHARSMAP:
				good = txt_charsmap(t, w);
				break;
			default:
				mr_fail(w->st, MR_CORRUPT, "compiled tokenizer has a step %d", s->op);
		}
		if (!good)
			return false;
		done = w->text;
		w->text = w->other;
		w->other = done;
	}
	return true;
}
