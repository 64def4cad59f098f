/*
 * language.c
 *	  What language words are of: their script, then function words and letters.
 *
 * Written by hand, not trained: for each language some forty of its commonest
 * short words, and letters that few others write.  A word says the more the fewer
 * languages share it.  What has no such word (names, numbers, two words of a title)
 * gets no guess.  How often it is right: docs/score.md.
 */
#include "text/text_int.h"
#include "text/text_stats.h"

typedef enum script
{
	LATIN,
	CYRILLIC,
	ARABIC,
	OTHER						/* of one language: found by its letters alone */
} script;

typedef struct language
{
	const char *code;
	script		script;
	const char *words;			/* between spaces */
	const char *letters;		/* that few others of the script write */
} language;

static const language languages[] = {
	{"en", LATIN, "the of and to in is that it was for on are with as be this have from or by not but what all were when we there can an your which their said if will each how them then she many some would other into has more her him could been its only than you they at he his i do does did no so these who where why about after also any because before between our my me us should may might must i'm don't it's", ""},
	{"de", LATIN, "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor zur bis mehr durch man sein wurde sei kann ihr ich wir wenn keine diese dieser nicht kein", "äöüß"},
	{"fr", LATIN, "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont la mais comme ou si leur y dont aux avec cette ces sa ses être fait été nous vous je elle on tout même sans aussi son lui était ils n'est c'est d'un d'une qu'il peut cela", "çèêàùœëîô"},
	{"es", LATIN, "de la que el en y a los del se las por un para con no una su al lo como más pero sus le ya o este sí porque esta entre cuando muy sin sobre también me hasta hay donde quien desde todo nos durante todos uno les ni contra otros ese eso ante ellos e esto es son está fue ser puede", "ñ¿¡"},
	{"pt", LATIN, "de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele das tem à seu sua ou ser quando muito há nos já está eu também só pelo pela até isso ela entre era depois sem mesmo aos ter seus quem nas me esse eles estão você essa num nem são pode", "ãõçâ"},
	{"it", LATIN, "di e il la che in a per un è del non una con le si da i sono al come dei lo più nel alla della anche ma ha gli su dal questo delle se o ed essere nella tra era loro cui ai stato ci degli alle suo sua dalla perché può quando molto così questa sui dell'", "òìù"},
	{"nl", LATIN, "de het een van en in is dat op te zijn met voor niet die aan er om ook als dan maar bij of uit nog naar heeft ze hij wordt door over deze was wat worden kan geen zich tot werd hun meer moet u haar ik je we dit wel zou mijn kunnen hebben al", "ĳ"},
	{"sv", LATIN, "och i att det som en på är av för med till den har de inte om ett han men var jag sig från vi så kan när man hade nu ska eller efter vid också där hans sin ut skulle mot under hon bara alla dem detta vara kommer blir hur denna inga ingen finns", "äöå"},
	{"da", LATIN, "og i at det er en til af på for de med den der som ikke har et om var han kan fra sig men så vil man jeg være skal eller efter ud blev nu også da hvor ved været hun denne når ind alle noget end mere hvis havde kun over op dette mellem ingen nogen bliver uden samt kunne findes bruges ikke", "æøå"},
	{"nb", LATIN, "og i det er på til som en å for at av med den har de ikke om et han men var jeg seg fra vi så kan når man skal eller etter ved også der hun bare alle dem dette være blir hvor denne ut ble nå mot under vil opp også ingen hvis finnes kunne mellom noen uten brukes eller gjør hva", "æøå"},
	{"fi", LATIN, "ja on ei se että oli hän en mutta ovat kun niin myös joka sen tai kuin jos ole mukaan ovat olla voi hänen sitä tämä ne siitä jo vain nyt mitä jotka vuonna sekä minä olen ollut ennen jälkeen kanssa tässä siellä koska ettei mikä kaikki", "äö"},
	{"pl", LATIN, "i w na z się nie do to że jest o po jak a za co od tak przez być dla oraz są jego przy ale już tylko by był może które który ze jej ten tego czy było także lub można gdy nad ich była we pod", "łąężśćńź"},
	{"cs", LATIN, "a v se na je že s z do to o k i ve pro za by jako po ale si od jsou nebo tak jeho které který až když podle jak bylo než být byl co při jen také má může již však není bude lze", "ěřůýžšč"},
	{"sk", LATIN, "a v sa na je že s z do to o k aj vo pre za by ako po ale si od sú alebo nie je sa nebol bola boli nastavenie tak jeho ktoré ktorý až keď podľa bolo než byť bol čo pri len tiež má môže už nie bude možno", "ľĺŕôýžšč"},
	{"hu", LATIN, "a az és hogy nem is egy ez volt meg csak de ha már el mint még van azt vagy sem be ki kell lehet minden majd olyan után úgy aki ami amely között szerint más ezt lesz nagyon ne nincs", "őűöü"},
	{"ro", LATIN, "de și în a la cu pe nu o care din că mai un este să pentru o fi sunt ca prin după al sau lui ale dar au fost ce dacă ei până între avea fără cel cea cele acest această poate unei unui îl", "țșăâîţş"},
	{"tr", LATIN, "ve bir bu da de için ile çok olarak daha gibi olan ne en kadar sonra var ancak o her değil olduğu ya mi ben ki yok veya ise diye şey onun bunu tüm içinde göre tarafından edildi olmayan", "ğışçöü"},
	{"ca", LATIN, "de la i a el en que els les del un per una amb és al no es se l' d' va més com pel dels són als o ha seva seu aquest aquesta també però des entre fins ser tot hi perquè quan sobre molt", "çàèòï·"},
	{"id", LATIN, "yang dan di dari ini untuk dengan pada itu tidak dalam akan adalah ke juga dapat oleh ada sebagai atau bisa telah karena lebih saat tersebut mereka kami saya kita sudah hanya bahwa tahun bagi seperti harus secara antara belum setelah", ""},
	{"vi", LATIN, "và của là có không được cho trong một các với người này đã những để khi đến từ về như ra nhiều cũng lại vào ở sẽ tại theo sau trên phải hay nếu bị do", "ơưđạảấầẩậắằẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ"},
	{"hr", LATIN, "i u je da se na za su s od ne što koji ili iz o kao a koja nije će do ali po sve bio može biti prema nakon samo koje bez kako još ako oko te međutim između", "đćčšž"},
	{"ru", CYRILLIC, "и в не на что с по как это он к из за от для но а у его о все так же было только бы или быть мы они если когда уже вы до при её может этого который которые была также их во нет", "ыэё"},
	{"uk", CYRILLIC, "і в не на що з до та у за як від це про для по але є він його вже або так які який бути було тільки може при ще також коли якщо їх ми вони після під була цього не", "іїєґ"},
	{"bg", CYRILLIC, "на и в да се е за от не с по като са че до при но или това ще който са беше което които може след към той само му ги си ако както още има бъде трябва тази този", "ъ"},
	{"sr", CYRILLIC, "и у је да се на за су са од не што који или из о као а која није ће до али по све био може бити према након само које без како још ако", "љњђћџј"},
	{"ar", ARABIC, "في من على إلى أن ما لا هذا التي الذي عن مع كان هو هذه هي قد أو كل بعد بين ذلك لم إن ولا كما غير عند حيث ثم", "أإةىؤئ"},
	{"fa", ARABIC, "و در به از که این را با است برای آن یک هم تا بر خود شد بود می کرد شود یا اما نیز ها های دارد باید همه هر", "پچژگیک"},
	{"ur", ARABIC, "کے کی میں ہے کا سے اور کو نے پر یہ ہیں کہ اس بھی تھا ایک جو ہو نہیں گیا لیے وہ تھے کر", "ٹڈڑےںہ"},
	{"el", OTHER, "", ""}, {"he", OTHER, "", ""}, {"hi", OTHER, "", ""}, {"bn", OTHER, "", ""}, {"ta", OTHER, "", ""},
	{"te", OTHER, "", ""}, {"th", OTHER, "", ""}, {"ka", OTHER, "", ""}, {"hy", OTHER, "", ""}, {"ko", OTHER, "", ""},
	{"ja", OTHER, "", ""}, {"zh", OTHER, "", ""}
};

#define N_LANGUAGES ((int) (sizeof(languages) / sizeof(languages[0])))

/* Blocks of letters.  A language of its own where code is given, else a script of several. */
static const struct block
{
	int32_t		from,
				to;
	const char *code;
	script		script;
}			blocks[] = {
	{0x41, 0x24f, NULL, LATIN}, {0x1e00, 0x1eff, NULL, LATIN}, {0x400, 0x52f, NULL, CYRILLIC},
	{0x600, 0x6ff, NULL, ARABIC}, {0x750, 0x77f, NULL, ARABIC}, {0xfb50, 0xfdff, NULL, ARABIC}, {0xfe70, 0xfeff, NULL, ARABIC},
	{0x370, 0x3ff, "el", OTHER}, {0x1f00, 0x1fff, "el", OTHER}, {0x590, 0x5ff, "he", OTHER}, {0x900, 0x97f, "hi", OTHER},
	{0x980, 0x9ff, "bn", OTHER}, {0xb80, 0xbff, "ta", OTHER}, {0xc00, 0xc7f, "te", OTHER}, {0xe00, 0xe7f, "th", OTHER},
	{0x10a0, 0x10ff, "ka", OTHER}, {0x530, 0x58f, "hy", OTHER}, {0xac00, 0xd7af, "ko", OTHER}, {0x1100, 0x11ff, "ko", OTHER},
	{0x3040, 0x30ff, "ja", OTHER}, {0x4e00, 0x9fff, "zh", OTHER}, {0x3400, 0x4dbf, "zh", OTHER}, {0x20000, 0x3ffff, "zh", OTHER}
};

#define N_BLOCKS ((int) (sizeof(blocks) / sizeof(blocks[0])))

/* How many words of all the text a guess looks at: the first different ones. */
#define ENOUGH_WORDS 4000

typedef struct evidence
{
	double		block[N_BLOCKS];	/* letters */
	double		score[N_LANGUAGES];
} evidence;

/* Letters of a text's words by block, and of those that few languages write. */
static void
count_letters(const txt_dictionary *d, const uint32_t *count, evidence *e)
{
	for (size_t w = 0; w < d->n && w < ENOUGH_WORDS; w++)
	{
		const char *end = d->word[w].data + d->word[w].len;
		int			n;

		for (const char *p = d->word[w].data; p < end; p += n)
		{
			int32_t		c = txt_decode(p, end, &n);

			for (int b = 0; b < N_BLOCKS; b++)
				if (c >= blocks[b].from && c <= blocks[b].to && txt_is_letter(c))
				{
					e->block[b] += count[w];
					break;
				}
			for (int l = 0; n > 1 && l < N_LANGUAGES; l++)
				for (const char *q = languages[l].letters; *q; q++)
					if (strncmp(q, p, (size_t) n) == 0)
					{
						e->score[l] += 0.3 * count[w];
						break;
					}
		}
	}
}

/* The next word of a list, or NULL at its end. */
static const char *
next_word(const char **list, size_t *len)
{
	const char *word = *list + strspn(*list, " ");

	*len = strcspn(word, " ");
	*list = word + *len;
	return *len > 0 ? word : NULL;
}

/* A function word is worth one, shared by the languages that have it. */
static void
count_words(const txt_dictionary *d, const uint32_t *count, evidence *e)
{
	uint8_t		having[ENOUGH_WORDS] = {0};	/* languages, by word of the text */

	for (int pass = 0; pass < 2; pass++)
		for (int l = 0; l < N_LANGUAGES; l++)
		{
			const char *list = languages[l].words;
			const char *word;
			size_t		len;

			while ((word = next_word(&list, &len)))
			{
				int32_t		id = txt_find_word(d, word, len);

				if (id < 0 || id >= ENOUGH_WORDS)
					continue;
				if (pass == 0)
					having[id]++;
				else
					e->score[l] += (double) count[id] / having[id];
			}
		}
}

static const char *
likeliest(const evidence *e, script of, double *confidence)
{
	double		sum = 0;
	int			best = -1;
	bool		tie = false;

	for (int l = 0; l < N_LANGUAGES; l++)
	{
		if (languages[l].script != of)
			continue;
		sum += e->score[l];
		if (best < 0 || e->score[l] > e->score[best])
		{
			best = l;
			tie = false;
		}
		else if (e->score[l] == e->score[best])
			tie = true;
	}
	*confidence = sum > 0 && !tie ? e->score[best] / sum : 0;
	return *confidence > 0 ? languages[best].code : NULL;
}

const char *
txt_language_of(const txt_dictionary *d, const uint32_t *count, double *confidence)
{
	evidence	e = {0};
	double		letters[OTHER + 1] = {0};
	double		all = 0,
				kana = 0;
	int			most = 0;

	count_letters(d, count, &e);
	for (int b = 0; b < N_BLOCKS; b++)
	{
		all += e.block[b];
		kana += blocks[b].code && strcmp(blocks[b].code, "ja") == 0 ? e.block[b] : 0;
		if (blocks[b].code == NULL)
			letters[blocks[b].script] += e.block[b];
		else if (e.block[b] > e.block[most] || blocks[most].code == NULL)
			most = b;
	}
	*confidence = 0;
	if (all == 0)
		return NULL;
	for (script s = LATIN; s < OTHER; s++)
		if (letters[s] > e.block[most] && letters[s] * 2 > all)
		{
			count_words(d, count, &e);
			return likeliest(&e, s, confidence);
		}
	if (e.block[most] * 4 < all)
		return NULL;
	*confidence = e.block[most] / all;
	/* Japanese writes Chinese characters between its own; Chinese has none of those. */
	return strcmp(blocks[most].code, "zh") == 0 && kana * 10 > e.block[most] ? "ja" : blocks[most].code;
}
