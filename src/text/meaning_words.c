/*
 * meaning_words.c
 *	  The English words that txt_meaning_conflict() knows.  See meaning_words.h.
 *
 * A word that is not here must stand in both questions, so the lists say what
 * may differ, and a name is safe by not being known.  To be on one a word must be such that questions that differ in it alone
 * have one answer.  The table behind them is made at the first look-up, the same by whoever makes it.
 */
#include "text/meaning_words.h"

#include <string.h>

#define MAX_WORDS 2048
#define SLOTS 4096				/* a power of two */
#define LONGEST 24

static const char loose[] =
"a an the this that these those there here "
"is are was were be been being am do does did doing done have has had having s re ve ll d m t "
"i you we they it me us them my your our their its yours mine ours one ones oneself myself yourself someone anyone somebody anybody everyone person people "
"and or but if then so as also too just really very actually exactly please ok okay quite simply hello hi thanks "
"up now current currently "
"tell explain describe show know knows want wants wanted like wonder wondering help let lets "
"mean means meaning meant define defined definition considered consider count counts called name "
"way ways method methods step steps process procedure tip tips guide instructions instruction command formula recipe "
"make makes making made get gets getting got go goes going come take takes taking put set use uses using used find see look looks say says give gives "
"try keep turn turned turning switch switched switching given giving gave calculate calculates calculated calculating compute visit visiting travel traveling travelling happen happens happened occur occurs occurred "
"any some thing things something anything kind kinds type types form forms lot lots bit "
"time times many much";

/*
 * Loose verbs that are loose one against nothing, but not against each other: "how do I make bleach" is no "how do I use bleach".
 * Those of a line may stand for each other.
 */
static const char *const acting[] = {
	"make makes making made take takes taking took", "get gets getting got find", "use uses using used", "give gives giving given gave", "put set",
	"see look looks visit visiting travel traveling travelling go goes going", "come", "keep", "try", "know knows", "want wants wanted", "help", "let lets", "happen happens happened occur occurs occurred",
	"calculate calculates calculated calculating compute"
};

/* Loose before a way or a time, and where they stand alone with a verb: "the best way to", not "the best laptop". */
static const char framing[] =
"best good right proper correct ideal easy easiest simple simplest properly correctly ideally easily";

static const char framed[] = "way ways method methods process procedure steps tips time times";

static const char negations[] =
"not never no none nobody nothing nowhere neither nor without except excluding excepting unless cannot unable non lacking ain minus negative nicht kein keine sans ne pas sin jamais nunca";

/* Words before what they are about. */
static const struct
{
	txt_way		way;
	const char *words;
}			ways[] = {
	{TXT_WAY_PLAIN, "of in on at for with during between among per via through within"},
	{TXT_WAY_TO, "to into onto toward towards"},
	{TXT_WAY_FROM, "from"},
	{TXT_WAY_BY, "by"},
	{TXT_WAY_ABOUT, "about"},
	{TXT_WAY_THAN, "than"},
};

static const struct
{
	txt_modal	modal;
	const char *words;
}			modals[] = {
	{TXT_MODAL_CAN, "can could may might able possible allowed allow allows permitted okay ok"},
	{TXT_MODAL_SHOULD, "should ought recommended advisable"},
	{TXT_MODAL_MUST, "must need needs required require requires necessary"},
	{TXT_MODAL_WILL, "will would shall"},
};

static const struct
{
	txt_asks	asks;
	const char *words;			/* that ask for it */
	const char *said;			/* that say so after "what" or "which", and may stand for the question's word */
}			asking[] = {
	{TXT_ASKS_WHAT, "what which", ""},
	{TXT_ASKS_WHO, "who whom whose", ""},
	{TXT_ASKS_WHEN, "when", ""},
	{TXT_ASKS_WHERE, "where", ""},
	{TXT_ASKS_WHY, "why", "cause causes caused causing reason reasons"},
	{TXT_ASKS_HOW, "how", ""},
};

static const struct
{
	double		value;
	txt_word_kind kind;
	const char *words;
}			numbers[] = {
	{0, TXT_WORD_NUMBER, "zero"}, {1, TXT_WORD_NUMBER, "first once"}, {2, TXT_WORD_NUMBER, "two second twice"}, {3, TXT_WORD_NUMBER, "three third thrice"},
	{4, TXT_WORD_NUMBER, "four fourth"}, {5, TXT_WORD_NUMBER, "five fifth"}, {6, TXT_WORD_NUMBER, "six sixth"}, {7, TXT_WORD_NUMBER, "seven seventh"},
	{8, TXT_WORD_NUMBER, "eight eighth"}, {9, TXT_WORD_NUMBER, "nine ninth"}, {10, TXT_WORD_NUMBER, "ten tenth"}, {11, TXT_WORD_NUMBER, "eleven eleventh"},
	{12, TXT_WORD_NUMBER, "twelve twelfth"}, {13, TXT_WORD_NUMBER, "thirteen thirteenth"}, {14, TXT_WORD_NUMBER, "fourteen fourteenth"},
	{15, TXT_WORD_NUMBER, "fifteen fifteenth"}, {16, TXT_WORD_NUMBER, "sixteen sixteenth"}, {17, TXT_WORD_NUMBER, "seventeen seventeenth"},
	{18, TXT_WORD_NUMBER, "eighteen eighteenth"}, {19, TXT_WORD_NUMBER, "nineteen nineteenth"}, {20, TXT_WORD_NUMBER, "twenty twentieth"},
	{30, TXT_WORD_NUMBER, "thirty thirtieth"}, {40, TXT_WORD_NUMBER, "forty fortieth"}, {50, TXT_WORD_NUMBER, "fifty fiftieth"}, {60, TXT_WORD_NUMBER, "sixty sixtieth"},
	{70, TXT_WORD_NUMBER, "seventy seventieth"}, {80, TXT_WORD_NUMBER, "eighty eightieth"}, {90, TXT_WORD_NUMBER, "ninety ninetieth"},
	{0.5, TXT_WORD_NUMBER, "half"}, {0.25, TXT_WORD_NUMBER, "quarter"},
	{12, TXT_WORD_SCALE, "dozen"}, {100, TXT_WORD_SCALE, "hundred hundredth"}, {1e3, TXT_WORD_SCALE, "thousand thousandth"},
	{1e6, TXT_WORD_SCALE, "million millions"}, {1e9, TXT_WORD_SCALE, "billion billions bn"}, {1e12, TXT_WORD_SCALE, "trillion trillions"},
};

/* A line: words of which one is said for another in questions. */
static const char *const same[] = {
	"buy purchase order", "fix repair mend", "car automobile auto", "phone smartphone cellphone telephone", "movie film",
	"delete erase remove rid eliminate out", "clean wash", "create add", "begin start", "end finish", "close shut",
	"big large", "small little", "fast quick quickly rapidly speed fastest quickest faster quicker speedy", "slow slowly sluggish",
	"tall height high", "wide width breadth", "deep depth", "heavy weight weigh weighs", "far distance away", "old age aged", "long length duration",
	"cost price expensive fee costs", "money cash", "work job", "doctor physician", "kid kids child children", "mom mother mum", "dad father",
	"usa us america states", "uk britain", "tv television", "computer pc", "picture photo image", "screen display", "screenshot capture",
	"shop store", "plane airplane aircraft airplanes planes", "bike bicycle", "luggage baggage", "flight flights", "trip journey",
	"near close nearby", "city town", "address addresses", "mail email", "site website", "internet web", "wifi wi-fi",
	"contact reach touch", "support service", "customer client", "cancel terminate", "change update modify edit alter", "choose pick select", "show display",
	"increase raise grow higher", "decrease reduce lower drop cut", "improve better boost", "fill complete", "send submit", "receive obtain",
	"differ difference differences different differs", "prepare preparing ready preparation", "teach train training", "learn study",
	"write wrote written author writer", "paint painted painter artist", "invent invented inventor", "discover discovered discoveries discovery",
	"win won winner wins", "born birth birthday birthdate", "die died death dead", "marry married wedding spouse",
	"symptom symptoms sign signs", "treat treatment therapy cure", "medicine medication drug", "safe safely", "bad harmful unhealthy", "ill sick", "hurt pain ache",
	"eat eating eaten food", "cook cooked cooking", "boil boiled boiling", "freeze frozen freezing", "drink drinking", "grill grilled grilling", "contain contains",
	"km kilometer kilometers kilometre kilometres", "kg kilogram kilograms kilo kilos", "cm centimeter centimeters centimetre", "mm millimeter millimeters", "m meter meters metre metres",
	"g gram grams", "lb lbs pound pounds", "oz ounce ounces", "l liter liters litre litres", "ft foot feet", "inch inches", "mi mile miles", "ms millisecond milliseconds",
	"gb gigabyte gigabytes", "mb megabyte megabytes", "kb kilobyte kilobytes", "tb terabyte terabytes", "percent percentage pct",
	"hour hours hr hrs", "minute minutes mins", "day days daily", "week weeks weekly", "month months monthly", "year years yearly annual annually",
	"often frequently frequency", "usually typically normally", "usual normal typical", "latest newest", "last recent", "trash garbage waste", "rubbish garbage",
	"color colour", "tire tyre", "center centre", "favorite favourite", "organize organise", "grey gray", "program programme", "theater theatre",
	"app application", "folder directory", "install setup installation", "uninstall deinstall", "restart reboot", "backup back", "error fault", "bug defect", "log sign",
	"off disable deactivate disabled", "enable activate", "merge combine join", "undo revert", "convert turn change transform",
	"employee worker", "boss manager", "salary wage", "company firm business", "rent lease", "house home", "flat apartment", "landlord owner",
	"legal legally lawful", "illegal illegally unlawful", "required necessary need require must requirement", "possible possibly", "allowed allow permitted may allows",
	"permanently forever", "deliver delivery ship shipping shipment", "accept accepted take support", "return refund", "team club", "soccer football",
	"whenever anytime moment", "adult adults", "crash accident", "leaky leaking leak leaks dripping", "unclog unblock clear", "international internationally",
	"sink sank sunk", "human man person", "walk walked", "consent permission", "vaccine vaccines vaccination vaccinations", "cactus cacti", "valid validity",
	"lifespan expectancy", "space storage", "open opening", "oven stove", "job position", "bring take", "retire retirement", "tax taxes",
};

/* For the name of a conflict; that such words must agree follows from their not being the same. */
static const char *const opposites[][2] = {
	{"increase raise grow rise gain", "decrease reduce lower drop shrink fall lose"}, {"buy purchase", "sell"}, {"hot warm", "cold cool"}, {"before", "after"},
	{"male man men boy boys father husband brother son he his him king uncle", "female woman women girl girls mother wife sister daughter she her hers queen aunt"},
	{"more most", "less least fewer fewest"}, {"maximum max", "minimum min"}, {"first", "last"}, {"highest high tallest", "lowest low shortest"},
	{"big large biggest largest", "small smallest little tiny"}, {"open", "close closed shut"}, {"start begin", "stop end finish quit"}, {"on enable activate", "off disable deactivate"},
	{"up", "down"}, {"in", "out"}, {"inside indoor indoors", "outside outdoor outdoors"}, {"above over", "below under beneath"}, {"left", "right"}, {"top", "bottom"}, {"front", "back"},
	{"good better best", "bad worse worst"}, {"easy", "hard difficult"}, {"fast quick quickly fastest", "slow slowly slowest"}, {"old oldest elder", "young youngest new newest younger"},
	{"rich", "poor"}, {"love like", "hate dislike"}, {"win won", "lose lost"}, {"add insert include", "remove delete exclude"}, {"push", "pull"}, {"send", "receive"},
	{"borrow", "lend"}, {"accept", "reject refuse decline"}, {"allow permit", "forbid ban prohibit prevent block"}, {"remember", "forget"}, {"save", "delete spend"}, {"lock", "unlock"},
	{"encrypt encode", "decrypt decode"}, {"upload", "download"}, {"import", "export"}, {"connect attach join", "disconnect detach leave"}, {"install", "uninstall"},
	{"legal", "illegal"}, {"safe", "dangerous unsafe"}, {"healthy", "unhealthy"}, {"always", "never"}, {"all every everyone", "none no nobody"}, {"true", "false"}, {"same", "different"},
	{"day", "night"}, {"morning am", "evening pm"}, {"today", "tomorrow yesterday"}, {"past previous former", "future next"}, {"north northern", "south southern"}, {"east eastern", "west western"},
	{"arrive arrival", "depart departure leave"}, {"alive", "dead"}, {"born birth", "died death die"}, {"parent", "child"}, {"employer", "employee"}, {"teacher", "student"}, {"import", "export"},
	{"positive", "negative"}, {"plus", "minus"}, {"multiply", "divide"}, {"full", "empty"}, {"wet", "dry"}, {"light", "dark heavy"}, {"long", "short"}, {"wide", "narrow"}, {"strong", "weak"},
	{"early earlier", "late later"}, {"public", "private"}, {"internal", "external"}, {"single", "married"}, {"expensive", "cheap"}, {"with", "without"}, {"can", "cannot"}, {"pass", "fail"},
	{"freeze", "thaw melt"}, {"raw", "cooked"}, {"guilty", "innocent"}, {"deposit", "withdraw withdrawal"}, {"credit", "debit"}, {"asset assets", "liability liabilities"}, {"profit", "loss"},
};

typedef struct listed
{
	const char *word;
	size_t		len;
	txt_word_entry entry;
} listed;

static listed table[MAX_WORDS];
static int	n_words = 0;
static uint16_t slots[SLOTS];	/* number of a word of the table, from 1 */

static uint32_t
hash_of(const char *data, size_t len)
{
	uint32_t	h = 2166136261u;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char) data[i]) * 16777619u;
	return h ^ h >> 15;
}

/* Where a word is in the slots, or belongs. */
static uint16_t *
slot_of(const char *word, size_t len)
{
	for (uint32_t i = hash_of(word, len);; i++)
	{
		uint16_t   *slot = &slots[i & (SLOTS - 1)];

		if (*slot == 0 || (table[*slot - 1].len == len && memcmp(table[*slot - 1].word, word, len) == 0))
			return slot;
	}
}

/* The next word of a list: where it begins, and its length; NULL: none. */
static const char *
next_word(const char **list, size_t *len)
{
	const char *word = *list + strspn(*list, " ");

	*len = strcspn(word, " ");
	*list = word + *len;
	return *len > 0 ? word : NULL;
}

static txt_word_entry *
add(const char *word, size_t len)
{
	uint16_t   *slot = slot_of(word, len);

	if (*slot == 0)
	{
		table[n_words].word = word;
		table[n_words].len = len;
		*slot = (uint16_t) ++n_words;
	}
	return &table[*slot - 1].entry;
}

#define FOR_WORDS(list) \
	for (const char *rest_ = (list), *word = next_word(&rest_, &len); word != NULL; word = next_word(&rest_, &len))

/* In this order: what comes later decides what a word is, what it is the same as is added. */
static void
make_table(void)
{
	size_t		len;

	FOR_WORDS(loose) add(word, len)->kind = TXT_WORD_LOOSE;
	for (size_t i = 0; i < sizeof(acting) / sizeof(*acting); i++)
		FOR_WORDS(acting[i]) add(word, len)->acts = (uint8_t) (i + 1);
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		FOR_WORDS(ways[i].words)
	{
		txt_word_entry *e = add(word, len);

		e->kind = TXT_WORD_LOOSE;
		e->way = ways[i].way;
	}
	for (size_t i = 0; i < sizeof(modals) / sizeof(*modals); i++)
		FOR_WORDS(modals[i].words)
	{
		txt_word_entry *e = add(word, len);

		e->kind = TXT_WORD_LOOSE;
		e->modal = modals[i].modal;
	}
	for (size_t i = 0; i < sizeof(asking) / sizeof(*asking); i++)
	{
		FOR_WORDS(asking[i].words)
		{
			txt_word_entry *e = add(word, len);

			e->kind = TXT_WORD_ASKS;
			e->asks = asking[i].asks;
		}
		FOR_WORDS(asking[i].said)
		{
			txt_word_entry *e = add(word, len);

			e->kind = TXT_WORD_SAID;
			e->asks = asking[i].asks;
		}
	}
	FOR_WORDS(framing) add(word, len)->kind = TXT_WORD_FRAMING;
	FOR_WORDS(framed) add(word, len)->framed = true;
	FOR_WORDS(negations) add(word, len)->kind = TXT_WORD_NEGATION;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		FOR_WORDS(numbers[i].words)
	{
		txt_word_entry *e = add(word, len);

		e->kind = numbers[i].kind;
		e->value = numbers[i].value;
	}
	for (size_t i = 0; i < sizeof(same) / sizeof(*same); i++)
		FOR_WORDS(same[i]) if (add(word, len)->same == 0)
			add(word, len)->same = (uint16_t) (i + 1);
	for (size_t i = 0; i < sizeof(opposites) / sizeof(*opposites); i++)
		for (int side = 0; side < 2; side++)
			FOR_WORDS(opposites[i][side]) if (add(word, len)->opposite == 0)
				add(word, len)->opposite = (uint16_t) (2 * i + 2 + side);
}

const txt_word_entry *
txt_word_entry_of(const char *word, size_t len)
{
	static const txt_word_entry unknown = {0};
	uint16_t	n;

	if (n_words == 0)
		make_table();
	if (len > LONGEST)
		return &unknown;
	n = *slot_of(word, len);
	return n == 0 ? &unknown : &table[n - 1].entry;
}

/* ---- endings ---- */

/* Take an ending off if at least `least` letters are left. */
static bool
strip(char *word, size_t *len, const char *ending, size_t least)
{
	size_t		n = strlen(ending);

	if (*len < n + least || memcmp(word + *len - n, ending, n) != 0)
		return false;
	*len -= n;
	return true;
}

static bool
ends_in(const char *word, size_t len, const char *letters)
{
	return len > 0 && strchr(letters, word[len - 1]) != NULL;
}

size_t
txt_stem(const char *word, size_t len, bool deep, char out[TXT_MAX_STEM])
{
	static const char *const nouns[] = {"ation", "ment", "ion", "er", "or", "ly", "al", "ity", "y", "ness"};

	if (len > TXT_MAX_STEM)
		len = TXT_MAX_STEM;
	memcpy(out, word, len);
	/* plurals; "ss", "us" and "is" are none */
	if (strip(out, &len, "ies", 2))
		out[len++] = 'y';
	else if (len > 4 && (strip(out, &len, "sses", 1) || strip(out, &len, "shes", 1) || strip(out, &len, "ches", 1) || strip(out, &len, "xes", 1)))
		len += out[len] == 'x' ? 1 : 2;
	else if (len > 3 && out[len - 1] == 's' && !ends_in(out, len - 1, "sui"))
		len--;
	/* past and present */
	if (strip(out, &len, "ied", 2))
		out[len++] = 'y';
	else if (strip(out, &len, "ed", 3) || strip(out, &len, "ing", 3))
	{
		/* stopped, cancelled; but passed, filled */
		if (len > 3 && out[len - 1] == out[len - 2] && !ends_in(out, len, "aeiousz") && (out[len - 1] != 'l' || len > 5))
			len--;
	}
	if (deep)
		for (size_t i = 0; i < sizeof(nouns) / sizeof(*nouns); i++)
			if (strip(out, &len, nouns[i], 4))
				break;
	/* used, use */
	if (len > 3 && out[len - 1] == 'e')
		len--;
	return len;
}
