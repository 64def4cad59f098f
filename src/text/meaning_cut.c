/*
 * meaning_cut.c
 *	  A question as words for txt_meaning_conflict(): small letters, contractions
 *	  and possessives taken apart, numbers read, names told by their capitals.
 *
 * A word's text is its letters without dots between single ones (U.S. is us) and without
 * apostrophes.  Signs between numbers are words too.
 */
#include <stdlib.h>

#include <utf8proc.h>

#include "text/meaning_int.h"
#include "text/text_int.h"

#define MAX_BYTES 16384			/* of a question */
#define EXACT_DIGITS 15			/* that a double holds; longer ones are names, of accounts, say */

typedef struct cutter
{
	txt_mwords *q;
	const char *p,
			   *end;
	char	   *to;				/* free part of the buffer */
	bool		begins;			/* a sentence: its capital says nothing */
	bool		apart;			/* punctuation since the last word */
	int			capitals;		/* of loose words within sentences: a title */
} cutter;

bool
txt_listed(const char *list, const txt_mword *w)
{
	for (const char *s = list; *s; s += strspn(s, " "))
	{
		size_t		n = strcspn(s, " ");

		if (n == w->len && memcmp(s, w->text, n) == 0)
			return true;
		s += n;
	}
	return false;
}

static txt_mword *
add_word(cutter *c, const char *text, size_t len)
{
	txt_mword  *w;

	if (c->q->n == TXT_MAX_MWORDS)
	{
		c->q->too_long = true;
		return NULL;
	}
	w = &c->q->word[c->q->n++];
	memset(w, 0, sizeof(*w));
	memcpy(c->to, text, len);
	w->text = c->to;
	w->len = len;
	c->to += len;
	w->entry = txt_word_entry_of(w->text, len);
	w->match = -1;
	w->joined = !c->apart;
	c->apart = false;
	return w;
}

static bool
is_digit(int32_t c)
{
	return c >= '0' && c <= '9';
}

/* The character at p, 0 at the end. */
static int32_t
at(const cutter *c, const char *p, int *n)
{
	*n = 0;
	return p < c->end ? txt_decode(p, c->end, n) : 0;
}

static int32_t
next_solid(const cutter *c, const char *p)
{
	int			n;
	int32_t		x;

	while (txt_is_space(x = at(c, p, &n)))
		p += n;
	return x;
}

/* ---- numbers ---- */

/* Digits with a point and commas between thousands; how many bytes, 0: it is none, but a version, say. */
static size_t
read_number(const char *s, size_t len, double *value)
{
	char		plain[EXACT_DIGITS + 2];
	size_t		i = 0,
				n = 0;
	bool		point = false;

	for (; i < len && (is_digit(s[i]) || s[i] == '.' || s[i] == ','); i++)
	{
		if (s[i] == ',')
		{
			if (point || i + 3 >= len || !is_digit(s[i + 1]) || !is_digit(s[i + 2]) || !is_digit(s[i + 3]) || (i + 4 < len && is_digit(s[i + 4])))
				return 0;
			continue;
		}
		if ((s[i] == '.' && point) || n == sizeof(plain) - 1)
			return 0;
		point = point || s[i] == '.';
		plain[n++] = s[i];
	}
	if (n > EXACT_DIGITS || (n > 1 && plain[0] == '0' && plain[1] != '.'))
		return 0;
	plain[n] = '\0';
	*value = strtod(plain, NULL);
	return i;
}

/* II, III, IV … in capitals; 0: it is none. */
static int
roman(const char *s, size_t len)
{
	static const char *const numerals[] = {"II", "III", "IV", "VI", "VII", "VIII", "IX", "XI", "XII", "XIII", "XIV", "XV", "XVI", "XVII", "XVIII", "XIX", "XX"};
	static const int values[] = {2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20};

	for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++)
		if (strlen(numerals[i]) == len && memcmp(numerals[i], s, len) == 0)
			return values[i];
	return 0;
}

static void
add_number(cutter *c, const char *text, size_t len, double value)
{
	txt_mword  *w = add_word(c, text, len);

	if (w == NULL)
		return;
	w->number = true;
	w->value = value;
}

/* A run that begins with a digit, in small letters: 10, 1,000.5, 3rd, 10k, 5kg, 4x4. */
static void
add_digits(cutter *c, const char *s, size_t len, bool negative)
{
	double		value = 0;
	size_t		n = read_number(s, len, &value);
	const char *rest = s + n;
	size_t		left = len - n;
	txt_mword  *w;

	if (n > 0 && negative)
		value = -value;
	if (n > 0 && (left == 0 || (left == 2 && (memcmp(rest, "st", 2) == 0 || memcmp(rest, "nd", 2) == 0 || memcmp(rest, "rd", 2) == 0 || memcmp(rest, "th", 2) == 0))))
		add_number(c, s, n, value);
	else if (n > 0 && left == 1 && *rest == 'k')
		add_number(c, s, len, value * 1000);
	else if (n > 0 && left <= 3 && (txt_word_entry_of(rest, left)->same != 0 || memcmp(rest, "am", 2) == 0 || memcmp(rest, "pm", 2) == 0))
	{
		add_number(c, s, n, value);
		(void) add_word(c, rest, left);
	}
	else if ((w = add_word(c, s, len)) != NULL)
		w->name = true;
}

/* Spelled numbers become one: three hundred and five, twenty-five, 1.5 million, minus 5. */
static void
join_numbers(txt_mwords *q)
{
	int			n = 0;

	for (int i = 0; i < q->n; i++)
	{
		txt_mword	w = q->word[i];
		txt_mword  *last = n > 0 && q->word[n - 1].number && w.joined ? &q->word[n - 1] : NULL;
		txt_word_kind kind = w.number ? TXT_WORD_UNKNOWN : w.entry->kind;

		if (!w.number && txt_listed("one", &w))
		{
			w.number = w.one = true;
			w.value = 1;
		}
		else if (kind == TXT_WORD_SCALE)
		{
			if (last)
			{
				last->value *= w.entry->value;
				last->one = false;
				continue;
			}
			w.number = true;
			w.value = w.entry->value;
		}
		else if (kind == TXT_WORD_NUMBER)
		{
			w.number = true;
			w.value = w.entry->value;
		}
		if (w.number && last && w.value > 0 && w.value < 100 &&
			((last->value >= 20 && last->value < 100 && (int) last->value % 10 == 0 && w.value < 10 && last->entry->kind == TXT_WORD_NUMBER) ||
			 (last->value >= 100 && last->value < 1e15 && (int64_t) last->value % 100 == 0 && w.entry->kind == TXT_WORD_NUMBER)))
		{
			last->value += w.value;
			last->one = false;
			continue;
		}
		if (w.number && n > 0 && !q->word[n - 1].number && txt_listed("minus negative", &q->word[n - 1]))
		{
			w.value = -w.value;
			n--;
		}
		q->word[n++] = w;
	}
	q->n = n;
}

/* ---- words ---- */

/* n't becomes a word of its own; endings of what is contracted go. */
static void
add_letters(cutter *c, char *s, size_t len, size_t apostrophe, bool capital, bool capitals)
{
	static const char *const endings[] = {"s", "re", "ve", "ll", "d", "m"};
	bool		not = false;
	txt_mword  *w;

	if (apostrophe > 0)
	{
		not = len - apostrophe == 1 && s[apostrophe] == 't' && s[apostrophe - 1] == 'n';
		for (size_t i = 0; i < sizeof(endings) / sizeof(*endings); i++)
			if (len - apostrophe == strlen(endings[i]) && memcmp(s + apostrophe, endings[i], len - apostrophe) == 0)
			{
				len = apostrophe;
				break;
			}
	}
	if (not)
	{
		len -= 2;
		if (len == 2 && memcmp(s, "wo", 2) == 0)
			memcpy(s, "will", len = 4);
		else if (len == 2 && memcmp(s, "ca", 2) == 0)
			memcpy(s, "can", len = 3);
	}
	w = add_word(c, s, len);
	if (w != NULL)
	{
		bool		known = w->entry->kind != TXT_WORD_UNKNOWN;

		/* "I" is a capital that says nothing */
		w->name = (capitals && len > 1) || (capital && !c->begins && len > 1);
		c->capitals += known && capital && !capitals && !c->begins && len > 1;
	}
	if (not)
		(void) add_word(c, "not", 3);
}

/* A run of letters and digits from c->p on. */
static void
cut_run(cutter *c, char *scratch, bool negative)
{
	size_t		len = 0,
				apostrophe = 0,
				n_roman = 0;
	int			letters = 0,
				digits = 0,
				capitals = 0,
				n,
				m;
	bool		capital = false,
				dotted = false;
	char		upper[8];
	int			value;

	for (;;)
	{
		int32_t		x = at(c, c->p, &n),
					next = n > 0 ? at(c, c->p + n, &m) : 0;
		int32_t		lower[2];

		if (txt_is_letter(x) || txt_is_mark(x) || txt_is_number(x))
		{
			int			k = txt_lower(x, lower);

			if (txt_is_letter(x))
			{
				bool		is_capital = k > 1 || lower[0] != x;

				capital = capital || (letters == 0 && is_capital);
				capitals += is_capital;
				letters++;
				if (n_roman < sizeof(upper) && x < 0x80)
					upper[n_roman] = (char) x;
				n_roman++;
			}
			else if (txt_is_number(x))
				digits++;
			for (int i = 0; i < k; i++)
				len += (size_t) utf8proc_encode_char(lower[i], (utf8proc_uint8_t *) scratch + len);
		}
		else if ((x == '\'' || x == 0x2019) && letters > 0 && txt_is_letter(next))
			apostrophe = len;
		else if ((x == '.' || x == ',') && letters == 0 && digits > 0 && is_digit(next))
			scratch[len++] = (char) x;
		else if (x == '.' && letters > 0 && digits == 0 && (letters == 1 || dotted) && txt_is_letter(next) && capitals == letters)
			dotted = true;
		else if ((x == '+' || x == '#') && letters > 0 && digits == 0 && !txt_is_letter(next) && !is_digit(next))
			scratch[len++] = (char) x;
		else
			break;
		c->p += n;
	}
	if (digits > 0 && is_digit(scratch[0]))
		add_digits(c, scratch, len, negative);
	else if (digits > 0)
	{
		txt_mword  *w = add_word(c, scratch, len);

		if (w)
			w->name = true;
	}
	else if (capitals == letters && n_roman <= sizeof(upper) && (value = roman(upper, n_roman)) > 0)
		add_number(c, scratch, len, value);
	else
		add_letters(c, scratch, len, apostrophe, capital, letters > 1 && capitals == letters);
	c->begins = false;
}

/* A sign: those at numbers mean something. */
static void
cut_sign(cutter *c, int32_t x, int n, int32_t before)
{
	static const struct
	{
		int32_t		sign;
		const char *word;
	}			named[] = {{'%', "percent"}, {'$', "dollar"}, {0x20ac, "euro"}, {0xa3, "pound"}, {0xa5, "yen"}, {0xb0, "degree"}};
	static const int32_t operators[] = {'+', '-', '*', '/', '^', '=', '<', '>', 0xd7, 0xf7, 0x2212, 0x2264, 0x2265, 0x221a};
	const char *sign = c->p;
	int32_t		next = next_solid(c, c->p + n);

	c->p += n;
	for (size_t i = 0; i < sizeof(named) / sizeof(*named); i++)
		if (x == named[i].sign && (is_digit(before) || is_digit(next)))
		{
			(void) add_word(c, named[i].word, strlen(named[i].word));
			return;
		}
	for (size_t i = 0; i < sizeof(operators) / sizeof(*operators); i++)
		if (x == operators[i] && (is_digit(before) || is_digit(next) || x == 0x221a))
		{
			txt_mword  *w = add_word(c, sign, (size_t) n);

			if (w)
				w->name = true;
			return;
		}
	c->apart = c->apart || x != '-';
	c->begins = c->begins || x == '.' || x == '?' || x == '!' || x == ':' || x == '\n';
}

/* Once it is known whether it is a title, and what stands before and after. */
static void
look_around(txt_mwords *q, bool title)
{
	txt_way		way = TXT_WAY_NONE;

	for (int i = 0; i < q->n; i++)
	{
		txt_mword  *w = &q->word[i];
		const txt_mword *before = i > 0 ? w - 1 : NULL,
				   *after = i + 1 < q->n ? w + 1 : NULL;
		txt_word_kind kind = w->entry->kind;

		if (title)
			w->name = w->name && kind == TXT_WORD_UNKNOWN;
		w->negation = !w->number && kind == TXT_WORD_NEGATION;
		q->negations += w->negation;
		w->hard = !w->number && !w->negation &&
			((w->name && kind != TXT_WORD_UNKNOWN) || (kind == TXT_WORD_FRAMING && !(after && after->entry->framed)));
		w->in_series = before && txt_listed("and or vs versus", before);
		if (w->entry->way != TXT_WAY_NONE && !w->hard)
			way = w->entry->way;
		else if (kind == TXT_WORD_UNKNOWN || w->number || w->hard)
		{
			/* both words of New York */
			w->way = way == TXT_WAY_NONE && before && w->joined && w->name && before->name ? before->way : way;
			way = TXT_WAY_NONE;
		}
		else if (!txt_listed("a an the this that these those my your our their its his her any some all every each", w))
			way = TXT_WAY_NONE;
	}
}

mr_code
txt_cut_question(const mr_env *env, const char *text, size_t len, txt_mwords *q, mr_status *st)
{
	cutter		c = {.q = q, .p = text, .end = text + len, .begins = true, .apart = true};
	char	   *scratch;
	int			all = 0,
				n;
	int32_t		before = ' ';

	memset(q, 0, sizeof(*q));
	if (len > MAX_BYTES)
	{
		q->too_long = true;
		return MR_OK;
	}
	q->word = mr_alloc(env, TXT_MAX_MWORDS * sizeof(txt_mword));
	/* lower case has three bytes for one at most; words that signs become; a run beside it */
	q->buffer = mr_alloc(env, 16 * len + 64);
	if (q->word == NULL || q->buffer == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory");
	c.to = q->buffer;
	scratch = q->buffer + 12 * len + 32;
	while (c.p < c.end && !q->too_long)
	{
		int32_t		x = txt_decode(c.p, c.end, &n);

		if (txt_is_space(x))
		{
			c.p += n;
			continue;
		}
		if (txt_is_letter(x) || txt_is_number(x) || txt_is_mark(x))
			cut_run(&c, scratch, false);
		else if ((x == '-' || x == 0x2212) && is_digit(c.p + n < c.end ? c.p[n] : 0) && (c.p == text || txt_is_space(before) || before == '('))
		{
			c.p += n;
			cut_run(&c, scratch, true);
		}
		else
			cut_sign(&c, x, n, before);
		before = c.p > text ? (unsigned char) c.p[-1] : ' ';
	}
	for (int i = 0; i < q->n; i++)
		all += q->word[i].name;
	join_numbers(q);
	/* A Title of a Question, or ALL OF IT IN CAPITALS: they say nothing */
	look_around(q, c.capitals > 1 || (q->n > 2 && all == q->n));
	txt_find_asks(q);
	return MR_OK;
}

void
txt_free_question(const mr_env *env, txt_mwords *q)
{
	mr_free(env, q->word);
	mr_free(env, q->buffer);
}
