"""Pairs of questions that an encoder finds near each other and that have different answers.

    pairs(n, seed)       [(kind, a, b)]: kind is number, negation or name

Templates, and lists of names and numbers of their own: nothing here is taken from the guard's word lists
(src/text/meaning_words.c), so that what is new to the guard is new in the test.  A third is written in small letters
throughout, as people type.
"""
import random

PEOPLE = """Marie Curie|Isaac Newton|Ada Lovelace|Nikola Tesla|Frida Kahlo|Nelson Mandela|Jane Austen|Mark Twain|Serena Williams|Lionel Messi|Roger Federer
Angela Merkel|Winston Churchill|Grace Hopper|Alan Turing|Rosa Parks|Bill Gates|Steve Jobs|Taylor Swift|Will Smith|Rich Paul|Hope Solo|Joan of Arc
Cleopatra|Charlemagne|Beethoven|Mozart|Shakespeare|Dostoevsky|Plato|Aristotle""".replace("\n", "|").split("|")
PLACES = """Paris|London|Berlin|Madrid|Lisbon|Vienna|Nairobi|Lagos|Cairo|Mumbai|Tokyo|Osaka|Seoul|Sydney|Perth|Toronto|Austin|Dallas|New York|New Orleans|San Diego
San Jose|Buenos Aires|Reading|Nice|Bath|Split|Orange|Phoenix|Buffalo""".replace("\n", "|").split("|")
COUNTRIES = """France|Spain|Portugal|Norway|Sweden|Iran|Iraq|Austria|Australia|Niger|Nigeria|Mali|Malta|Chile|China|Turkey|Jordan|Georgia|Chad|Cuba|North Korea|South Korea
Guinea|Guyana|India|Indonesia""".replace("\n", "|").split("|")
THINGS = """Python|Java|JavaScript|Rust|Go|Swift|C++|C#|Ruby|PostgreSQL|MySQL|Redis|Kafka|Docker|Excel|Word|Outlook|Photoshop|iPhone|Android|Windows|Ubuntu|Slack|Zoom|Teams
Gmail|Netflix|Spotify|GTX 1080|RTX 4090|PS4|PS5|HDMI|USB-C|SHA-1|SHA-256|IPv4|IPv6|HTTP/2|COVID-19|B12|B6""".replace("\n", "|").split("|")
DRUGS = "ibuprofen|aspirin|paracetamol|metformin|insulin|warfarin|melatonin|penicillin|amoxicillin|omeprazole|codeine|caffeine".split("|")
FIRMS = "Apple|Google|Amazon|Microsoft|Shell|Ford|Toyota|Honda|Target|Visa|Oracle|Intel|Nokia|Siemens|Boeing|Airbus|Gap|Subway|Tesla|Samsung".split("|")
FOODS = "salmon|tofu|lentils|spinach|quinoa|broccoli|beef|venison|oats|almonds|walnuts|mango|papaya|kale|rye".split("|")

NAMED = [
    ("When was {} born?", PEOPLE), ("What is {} famous for?", PEOPLE), ("How did {} die?", PEOPLE), ("Where did {} live?", PEOPLE), ("{} was born in which year?", PEOPLE),
    ("Who were the parents of {}?", PEOPLE), ("What is the population of {}?", PLACES), ("How is the weather in {} in spring?", PLACES), ("What time is it in {} right now?", PLACES),
    ("How do I get from the airport to the center of {}?", PLACES), ("Is {} a good place to live?", PLACES), ("{} has how many inhabitants?", PLACES),
    ("What is the capital of {}?", COUNTRIES), ("Do I need a visa for {}?", COUNTRIES), ("Who is the president of {}?", COUNTRIES), ("What currency is used in {}?", COUNTRIES),
    ("Which languages are spoken in {}?", COUNTRIES), ("How do I install {} on my computer?", THINGS), ("What is {} used for?", THINGS), ("How do I learn {} quickly?", THINGS),
    ("Why is {} so popular?", THINGS), ("What is the difference between {} and the rest?", THINGS), ("What are the side effects of {}?", DRUGS), ("Can I take {} while pregnant?", DRUGS),
    ("How much {} is too much?", DRUGS), ("Is {} safe for children?", DRUGS), ("Who is the CEO of {}?", FIRMS), ("When was {} founded?", FIRMS), ("How do I apply for a job at {}?", FIRMS),
    ("What is the share price of {}?", FIRMS), ("How much protein is in {}?", FOODS), ("How do I cook {}?", FOODS), ("How long does {} keep in the fridge?", FOODS),
]
TWO_NAMES = [
    ("How long is the flight from {} to {}?", PLACES), ("What is the cheapest train from {} to {}?", PLACES), ("Is {} bigger than {}?", COUNTRIES), ("Does {} export more to {}?", COUNTRIES),
    ("How do I migrate from {} to {}?", THINGS), ("Why did {} write to {}?", PEOPLE), ("How much does it cost to ship a parcel from {} to {}?", COUNTRIES),
    ("Was {} defeated by {}?", PEOPLE), ("Did {} influence {}?", PEOPLE), ("How do I convert a file from {} to {}?", THINGS),
]
COUNTED = [
    ("What is {} percent of 900?", 2, 60), ("How many calories are in {} eggs?", 2, 30), ("What happened in {}?", 1700, 2020), ("Who won the election of {}?", 1900, 2020),
    ("What was the inflation rate in {}?", 1950, 2020), ("How do I convert {} kilometers to miles?", 2, 500), ("Is {} a prime number?", 3, 400), ("How long does it take to drive {} miles?", 5, 900),
    ("What should I eat if I train {} times a week?", 2, 9), ("What does error code {} mean?", 100, 600), ("What is the meaning of HTTP status {}?", 100, 511), ("Can I take {} mg of ibuprofen?", 100, 900),
    ("How much is a parcel of {} kg to Spain?", 2, 40), ("What visa do I need for a stay of {} days?", 5, 200), ("How do I upgrade to version {}?", 2, 40), ("What is in chapter {} of the manual?", 2, 40),
    ("What is the tax on an income of {} dollars?", 1000, 90000), ("Is a fever of {} degrees dangerous?", 37, 43), ("What can a baby do at {} months?", 2, 20), ("How many grams are {} ounces?", 2, 90),
    ("What are the rules of a team of {}?", 2, 15), ("How much water do I need for {} people?", 2, 30), ("{} divided by 7 is what?", 8, 90), ("Which bus goes at {} o'clock?", 1, 12),
]
WORDS = "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty".split()
ORDINALS = "second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
WRITTEN = [
    ("How do I cook rice for {} people?", WORDS), ("What can I see in Rome in {} days?", WORDS), ("How many hours are {} working days?", WORDS), ("Can I return it after {} weeks?", WORDS),
    ("Who was the {} president of the United States?", ORDINALS), ("What happens in the {} month of pregnancy?", ORDINALS), ("What is the {} planet from the sun?", ORDINALS), ("Who came {} in the race?", ORDINALS),
]
MARKED = [      # signs, decimals, versions, dates, units, in pairs
    ("Is -5 degrees cold?", "Is 5 degrees cold?"), ("What is 5 - 3?", "What is 5 + 3?"), ("What is 1.5 plus 2?", "What is 15 plus 2?"), ("What changed in Python 3.11?", "What changed in Python 3.12?"),
    ("What changed in release 2.0.1?", "What changed in release 2.1.0?"), ("Is it open on 3/4/2025?", "Is it open on 4/3/2025?"), ("What happened on May 3rd, 1998?", "What happened on May 8th, 1998?"),
    ("What happened on March 3, 1998?", "What happened on June 3, 1998?"), ("How much is $50 in yen?", "How much is €50 in yen?"), ("How heavy is 5 kg of sand?", "How heavy is 5 lb of sand?"),
    ("How long are 3 miles?", "How long are 3 kilometers?"), ("Is a 3% raise fair?", "Is a 30% raise fair?"), ("What costs 1,000 euros?", "What costs 10,000 euros?"), ("Is 2 million a lot?", "Is 2 billion a lot?"),
    ("Is there a train at 5 am?", "Is there a train at 5 pm?"), ("What is 2 to the power of 10?", "What is 10 to the power of 2?"), ("What is 3/4 of 12?", "What is 4/3 of 12?"), ("What is the 21st amendment?", "What is the 22nd amendment?"),
    ("Who fought in World War I?", "Who fought in World War II?"), ("Who was Henry VI?", "Who was Henry VIII?"), ("What is twenty-five times four?", "What is twenty-six times four?"), ("Can I drink 2 liters a day?", "Can I drink half a liter a day?"),
    ("What is a 10k run?", "What is a 5k run?"), ("How old is a 1990s car?", "How old is a 1980s car?"), ("What are the limits of the 32-bit edition?", "What are the limits of the 64-bit edition?"), ("Is x > 5 true?", "Is x < 5 true?"),
]
PLAIN = [       # auxiliary verb first, so that it can be denied in several ways
    ("Why", "does", "my printer connect to the network"), ("Why", "do", "cats like water"), ("What happens if I", "do", "pay my rent"), ("Which foods", "should", "I eat before a race"),
    ("What", "should", "I wear to a wedding"), ("Why", "is", "the earth flat"), ("When", "should", "I water my plants"), ("Who", "can", "vote in this election"), ("Why", "did", "the experiment work"),
    ("Which countries", "are", "members of the union"), ("What", "can", "be recycled"), ("Which animals", "can", "swim"), ("Why", "would", "the engine start"), ("Who", "is", "allowed to enter the building"),
    ("Which medicines", "are", "safe during pregnancy"), ("Why", "was", "the treaty signed"), ("Which apps", "do", "work offline"), ("Why", "could", "they open the door"), ("What", "must", "a contract contain"),
    ("Which planets", "have", "moons"), ("Who", "will", "be invited to the party"), ("Where", "can", "I smoke"), ("What", "does", "the insurance cover"), ("Which cards", "are", "accepted here"),
]
PHRASES = [     # something denied by another word than "not"
    ("How do I make bread with yeast?", "How do I make bread without yeast?"), ("Which drinks contain sugar?", "Which drinks contain no sugar?"), ("How do I travel with a passport?", "How do I travel without a passport?"),
    ("Who always pays on time?", "Who never pays on time?"), ("Is it legal to park here?", "Is it illegal to park here?"), ("How do I install the driver?", "How do I uninstall the driver?"),
    ("How do I connect the device?", "How do I disconnect the device?"), ("Is this plant edible?", "Is this plant inedible?"), ("What is an active volcano?", "What is an inactive volcano?"), ("How do I lock the screen?", "How do I unlock the screen?"),
    ("Which numbers are even?", "Which numbers are odd?"), ("How do I enable cookies?", "How do I disable cookies?"), ("Is the answer true?", "Is the answer false?"), ("Should I eat before the test?", "Should I eat after the test?"),
    ("How do I increase the volume?", "How do I decrease the volume?"), ("When should I buy stocks?", "When should I sell stocks?"), ("How do I upload a file?", "How do I download a file?"), ("What lives above the ground?", "What lives below the ground?"),
    ("Everyone may enter except children?", "Everyone may enter including children?"), ("What is a renewable resource?", "What is a nonrenewable resource?"), ("Which metals are magnetic?", "Which metals are non-magnetic?"),
    ("How do I encrypt a disk?", "How do I decrypt a disk?"), ("How do I log in?", "How do I log out?"), ("How do I turn on the heating?", "How do I turn off the heating?"), ("Which shops are open on Sunday?", "Which shops are closed on Sunday?"),
    ("What are the advantages of nuclear power?", "What are the disadvantages of nuclear power?"), ("Who still works there?", "Who no longer works there?"), ("Can both of them swim?", "Can neither of them swim?"),
    ("What is the maximum speed?", "What is the minimum speed?"), ("Is it possible to win?", "Is it impossible to win?"), ("Which files were saved?", "Which files failed to be saved?"), ("What if somebody answers?", "What if nobody answers?"),
    ("Is the male bigger?", "Is the female bigger?"), ("How do I freeze soup?", "How do I thaw soup?"), ("Which is the hottest month?", "Which is the coldest month?"), ("How do I mount a drive?", "How do I unmount a drive?"),
]
SHORT = {"does": "doesn't", "do": "don't", "should": "shouldn't", "is": "isn't", "are": "aren't", "can": "can't", "did": "didn't", "would": "wouldn't", "was": "wasn't", "could": "couldn't", "must": "mustn't",
         "have": "haven't", "will": "won't"}


def _typed(rng, kind, a, b):
    if rng.random() < 1 / 3:
        a, b = a.lower(), b.lower()
    if rng.random() < 1 / 6:
        a, b = a.rstrip("?"), b.rstrip("?")
    if rng.random() < 1 / 2:
        a, b = b, a
    return kind, a, b


def _name(rng):
    if rng.random() < 0.2:
        text, names = rng.choice(TWO_NAMES)
        x, y = rng.sample(names, 2)
        z = rng.choice([n for n in names if n not in (x, y)])
        return text.format(x, y), rng.choice([text.format(y, x), text.format(x, z), text.format(z, y)])
    text, names = rng.choice(NAMED)
    x, y = rng.sample(names, 2)
    return text.format(x), text.format(y)


def _number(rng):
    r = rng.random()
    if r < 0.08:
        return rng.choice(MARKED)
    if r < 0.3:
        text, words = rng.choice(WRITTEN)
        x, y = rng.sample(words, 2)
        return text.format(x), text.format(y)
    text, low, high = rng.choice(COUNTED)
    x = rng.randint(low, high)
    y = rng.choice([x + 1, x - 1, x + 10, 10 * x, int(str(x)[::-1])])
    y = y if y != x and y > 0 else x + 2
    if x >= 1000 and rng.random() < 0.5 and "{} dollars" in text:
        return text.format(f"{x:,}"), text.format(f"{y:,}")
    return text.format(x), text.format(y)


def _negation(rng):
    if rng.random() < 0.3:
        return rng.choice(PHRASES)
    before, verb, after = rng.choice(PLAIN)
    words = after.split()
    plain = f"{before} {verb} {after}?"
    how = rng.randrange(4)
    if how == 0:
        denied = f"{before} {SHORT[verb]} {after}?"
    elif how == 1:
        denied = f"{before} {verb} not {after}?"
    elif how == 2:
        at = min(len(words), 2 if words[0] in ("my", "the", "a", "this") else 1)
        denied = "{} {} {} {} {}?".format(before, verb, " ".join(words[:at]), rng.choice(["not", "never", "no longer"]), " ".join(words[at:]))
    else:
        denied = f"{before} {verb} {after} and why not?" if rng.random() < 0.1 else f"{before} {verb} never {after}?"
    return plain, denied


def pairs(n=1000, seed=1):
    rng = random.Random(seed)
    make = [("number", _number), ("negation", _negation), ("name", _name)]
    found, out = set(), []
    while len(out) < n:
        kind, maker = make[len(out) % 3]
        pair = _typed(rng, kind, *maker(rng))
        if pair not in found or kind == "negation" and len(out) > 0.9 * n:
            found.add(pair)
            out.append(pair)
    return out
