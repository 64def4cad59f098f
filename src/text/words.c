/*
 * words.c
 *	  Texts as lists of numbered words.  See words.h.
 */
#include "text/words.h"

#include <utf8proc.h>

#include "text/text_int.h"

void
txt_dictionary_init(txt_dictionary *d, const mr_env *env, mr_status *st)
{
	memset(d, 0, sizeof(*d));
	d->env = env;
	d->st = st;
}

void
txt_dictionary_free(txt_dictionary *d)
{
	mr_free(d->env, d->slot);
	mr_free(d->env, d->word);
}

void
txt_words_free(txt_dictionary *d, txt_words *w)
{
	mr_free(d->env, w->id);
	mr_free(d->env, w->text);
}

/* FNV-1a. */
static uint32_t
hash_of(const char *data, size_t len)
{
	uint32_t	h = 2166136261u;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char) data[i]) * 16777619u;
	return h;
}

/* To be asked for each character or word of a long text; true: canceled, and the status says so. */
static bool
canceled(txt_dictionary *d)
{
	if ((++d->steps & 0x3fff) != 0 || !mr_interrupted(d->env))
		return false;
	mr_fail(d->st, MR_CANCELED, "canceled");
	return true;
}

static bool
grow_slots(txt_dictionary *d)
{
	size_t		n = d->n_slots ? d->n_slots * 2 : 256;
	int32_t    *slot = mr_alloc(d->env, n * sizeof(int32_t));

	if (slot == NULL)
		return mr_fail(d->st, MR_NOMEM, "out of memory"), false;
	for (size_t i = 0; i < n; i++)
		slot[i] = TXT_NO_WORD;
	for (size_t w = 0; w < d->n; w++)
	{
		size_t		i = txt_hash(d->word[w].hash) & (n - 1);

		while (slot[i] != TXT_NO_WORD)
			i = (i + 1) & (n - 1);
		slot[i] = (int32_t) w;
		if (canceled(d))
		{
			mr_free(d->env, slot);
			return false;
		}
	}
	mr_free(d->env, d->slot);
	d->slot = slot;
	d->n_slots = n;
	return true;
}

/* The slot where a word is or belongs. */
static int32_t *
slot_of(const txt_dictionary *d, const char *data, size_t len, uint32_t hash)
{
	size_t		mask = d->n_slots - 1;

	for (size_t i = txt_hash(hash) & mask;; i = (i + 1) & mask)
	{
		const struct txt_word *w;

		if (d->slot[i] == TXT_NO_WORD)
			return &d->slot[i];
		w = &d->word[d->slot[i]];
		if (w->hash == hash && w->len == len && memcmp(w->data, data, len) == 0)
			return &d->slot[i];
	}
}

int32_t
txt_find_word(const txt_dictionary *d, const char *data, size_t len)
{
	return d->n == 0 ? TXT_NO_WORD : *slot_of(d, data, len, hash_of(data, len));
}

/* Append a word to the list, numbering it if it is new. */
static bool
add_word(txt_dictionary *d, txt_words *out, const char *data, size_t len)
{
	uint32_t	hash = hash_of(data, len);
	int32_t    *slot;

	if (d->n * 2 >= d->n_slots && !grow_slots(d))
		return false;
	slot = slot_of(d, data, len, hash);
	if (*slot == TXT_NO_WORD && !d->closed)
	{
		if (!txt_grow(d->env, (void **) &d->word, d->n, &d->size, sizeof(*d->word), d->st))
			return false;
		d->word[d->n] = (struct txt_word) {data, (uint32_t) len, hash};
		*slot = (int32_t) d->n++;
	}
	if (!txt_grow(d->env, (void **) &out->id, out->n, &out->size, sizeof(int32_t), d->st))
		return false;
	out->id[out->n++] = *slot;
	return true;
}

static char *
put(char *to, int32_t c)
{
	return to + utf8proc_encode_char(c, (utf8proc_uint8_t *) to);
}

/*
 * The normalizers below write words with single spaces or more between them, at
 * most three bytes for each of the text, and return where that ends; NULL: canceled.
 */

/* text.lower(), then all but a-z and 0-9 become spaces; two characters beyond ASCII have such a lower case. */
static char *
rouge_text(txt_dictionary *d, const char *text, size_t len, char *to)
{
	int			n;

	for (const char *p = text; p < text + len; p += n)
	{
		int32_t		c = txt_decode(p, text + len, &n);

		if (canceled(d))
			return NULL;
		if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
			*to++ = (char) c;
		else if (c >= 'A' && c <= 'Z')
			*to++ = (char) (c - 'A' + 'a');
		else if (c == 0x212a)	/* kelvin */
			*to++ = 'k';
		else
		{
			if (c == 0x130)		/* i with a dot, which remains */
				*to++ = 'i';
			*to++ = ' ';
		}
	}
	return to;
}

static bool
is_alphanumeric(int32_t c)
{
	return txt_is_letter(c) || txt_is_number(c);
}

/*
 * Python's lower(): a capital sigma at the end of a word becomes the final one,
 * that is, after a letter and before none (marks do not count).
 */
static bool
sigma_is_final(const char *text, const char *p, const char *end)
{
	int			n;
	bool		after = false;

	for (const char *q = p; q > text && !after;)
	{
		int32_t		c;

		do
			q--;
		while (q > text && (*q & 0xc0) == 0x80);
		c = txt_decode(q, end, &n);
		if (!txt_is_mark(c) && !txt_is_letter(c))
			return false;
		after = txt_is_letter(c);
	}
	for (const char *q = p + 2; q < end; q += n)
	{
		int32_t		c = txt_decode(q, end, &n);

		if (txt_is_letter(c))
			return false;
		if (!txt_is_mark(c))
			break;
	}
	return after;
}

/* Lower case at to, at most three bytes for each of the text; where it ends. */
static char *
put_lower(char *to, const char *text, const char *p, const char *end, int32_t c)
{
	int32_t		lower[2];
	int			n;

	if (c == 0x3a3)
		return put(to, sigma_is_final(text, p, end) ? 0x3c2 : 0x3c3);
	n = txt_lower(c, lower);
	for (int i = 0; i < n; i++)
		to = put(to, lower[i]);
	return to;
}

static bool
is_article(const char *word, size_t len)
{
	return (len == 1 && word[0] == 'a') || (len == 2 && memcmp(word, "an", 2) == 0) ||
		(len == 3 && memcmp(word, "the", 3) == 0);
}

/* Articles, and all spaces, become a space; \b(a|an|the)\b is a whole run of letters and digits. */
static char *
remove_articles(txt_dictionary *d, char *text, const char *end)
{
	char	   *to = text;
	int			n;

	for (const char *p = text; p < end;)
	{
		const char *word = p;
		int32_t		c = 0;

		while (p < end && is_alphanumeric(c = txt_decode(p, end, &n)))
		{
			if (canceled(d))
				return NULL;
			p += n;
		}
		if (is_article(word, (size_t) (p - word)))
			*to++ = ' ';
		else
		{
			memmove(to, word, (size_t) (p - word));
			to += p - word;
		}
		if (canceled(d))
			return NULL;
		if (p == end)
			break;
		if (txt_is_space(c) || (c >= 0x1c && c <= 0x1f))
			*to++ = ' ';
		else
		{
			memmove(to, p, (size_t) n);
			to += n;
		}
		p += n;
	}
	return to;
}

/* evaluate.py of SQuAD: white_space_fix(remove_articles(remove_punc(lower(s)))). */
static char *
squad_text(txt_dictionary *d, const char *text, size_t len, char *out)
{
	char	   *to = out;
	int			n;

	for (const char *p = text; p < text + len; p += n)
	{
		int32_t		c = txt_decode(p, text + len, &n);

		if (canceled(d))
			return NULL;
		if (c >= 0x80 || !txt_is_punctuation(c))
			to = put_lower(to, text, p, text + len, c);
	}
	return remove_articles(d, out, to);
}

/* Scripts that write no spaces between words. */
static bool
stands_alone(int32_t c)
{
	return txt_is_chinese(c) || (c >= 0x3040 && c <= 0x30ff) || (c >= 0x0e00 && c <= 0x0eff) ||
		(c >= 0x1000 && c <= 0x109f) || (c >= 0x1780 && c <= 0x17ff);
}

static char *
plain_text(txt_dictionary *d, const char *text, size_t len, char *to)
{
	const char *out = to;
	int			n;

	for (const char *p = text; p < text + len; p += n)
	{
		int32_t		c = txt_decode(p, text + len, &n);
		bool		in_word = to > out && to[-1] != ' ';

		if (canceled(d))
			return NULL;
		if (stands_alone(c) && !txt_is_mark(c))
		{
			*to++ = ' ';
			to = put(to, c);
		}
		else if (is_alphanumeric(c) || txt_is_mark(c))
			to = put_lower(to, text, p, text + len, c);
		else
			*to++ = in_word && (c == '\'' || c == 0x2019) ? '\'' : ' ';
	}
	return to;
}

mr_code
txt_words_of(txt_dictionary *d, txt_word_rule rule, const char *text, size_t len, txt_words *out)
{
	const char *end;

	memset(out, 0, sizeof(*out));
	if (len > (1 << 30))
		return mr_fail(d->st, MR_LIMIT, "text is too long");
	if (mr_interrupted(d->env))
		return mr_fail(d->st, MR_CANCELED, "canceled");
	out->text = mr_alloc(d->env, 3 * len + 4);
	if (out->text == NULL)
		return mr_fail(d->st, MR_NOMEM, "out of memory");
	end = rule == TXT_WORDS_ROUGE ? rouge_text(d, text, len, out->text) :
		rule == TXT_WORDS_SQUAD ? squad_text(d, text, len, out->text) : plain_text(d, text, len, out->text);
	if (end == NULL)
		return d->st->code;
	for (const char *p = out->text; p < end;)
	{
		const char *word = p;

		p = memchr(word, ' ', (size_t) (end - word));
		p = p ? p : end;
		if (p > word && !add_word(d, out, word, (size_t) (p - word)))
			return d->st->code;
		if (p < end)
			p++;
		if (canceled(d))
			return d->st->code;
	}
	return MR_OK;
}
