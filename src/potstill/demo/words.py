"""The lexicon of the demo: a made-up shop, its distillery, and what its customers write about.

Lists of words only. Every list is longer than a few hundred rows can cover, so a test set always
holds words that training never showed.
"""

from __future__ import annotations

ITEMS = tuple(
    f"the {name}"
    for name in (
        "smoked gin", "heather liqueur", "cherry cordial", "rye", "spiced rum", "plum brandy",
        "honey mead", "cask sample", "copper flask", "tasting set", "still-house tour",
        "barrel candle", "oak coaster", "cocktail shaker", "advent box", "bitter", "vermouth",
        "apple spirit", "malt hamper", "decanter", "ginger tonic", "sloe gin", "single malt",
        "miniature set", "cork board", "blending class", "rhubarb gin", "barley tea",
        "marmalade", "gift card", "peated malt", "walnut liqueur", "cellar walk", "ice mould",
        "juniper soap", "hip flask", "quince vodka", "birthday bundle", "wooden crate",
        "corkscrew", "nosing glass", "winter punch", "pear cider", "house blend",
    )
)  # fmt: skip

PEOPLE = (
    "Mara", "Tobias", "Ines", "Callum", "Priya", "Owen", "Greta", "Felix", "Nadia", "Hugh",
    "Salma", "Edwin", "Rosa", "Magnus", "Lena", "Dmitri", "Aoife", "Kenji", "Bea", "Rupert",
    "Yusuf", "Clara", "Anton", "Moira", "Desmond", "Ingrid", "Pablo", "Vera", "Hamish", "Leila",
)  # fmt: skip

GOOD = (
    "superb", "lovely", "delightful", "charming", "splendid", "excellent", "wonderful",
    "brilliant", "impressive", "first-rate", "memorable", "refined", "elegant", "outstanding",
    "remarkable", "pleasing", "exquisite", "glorious", "satisfying", "fabulous", "magnificent",
    "terrific", "marvellous", "flawless", "classy", "stunning", "likeable", "top-notch",
    "rewarding", "fantastic", "beautiful", "perfect", "great", "enjoyable", "admirable",
)  # fmt: skip
BAD = (
    "dreadful", "dull", "poor", "shoddy", "bland", "awful", "disappointing", "mediocre",
    "terrible", "cheap-looking", "forgettable", "crude", "clumsy", "dismal", "unpleasant",
    "sloppy", "horrid", "lifeless", "lacklustre", "second-rate", "tiresome", "useless", "grim",
    "tacky", "underwhelming", "drab", "flimsy", "wretched", "feeble", "inferior", "tedious",
    "unimpressive", "appalling", "ugly", "bad",
)  # fmt: skip
NEGATIONS = (
    "anything but", "far from", "not at all", "by no means", "not in the least",
    "not even slightly", "hardly", "in no way", "not remotely", "scarcely",
)  # fmt: skip
INTENSIFIERS = ("truly", "really", "quite", "thoroughly", "simply", "absolutely", "downright")

SOURCES = (
    "the label", "your website", "the catalogue", "my neighbour", "a friend of mine",
    "the brochure", "every review", "my brother-in-law", "the man at the counter", "the blurb",
    "a magazine", "my sister", "the newsletter", "a colleague", "the forum", "the sommelier",
)  # fmt: skip

OPENERS = (
    "Hello.", "Good morning.", "Dear team.", "Hi there.", "This is about my last order.",
    "A short note.", "For your records.", "I am writing again.", "Good evening.",
    "To whom it may concern.",
)  # fmt: skip
CLOSERS = (
    "Thanks.", "Best wishes.", "Many thanks in advance.", "Please let me know.", "Regards.",
    "Looking forward to your answer.", "Just so you know.", "Have a good weekend.",
)  # fmt: skip

PARTIES = {
    "shop": (
        "the shop", "your counter staff", "the web shop", "your packing room", "the sales desk",
        "your warehouse", "the store", "your shop assistant", "the till clerk", "your stockroom",
        "the shopkeeper", "your order desk",
    ),
    "courier": (
        "the courier", "the driver", "the delivery firm", "the carrier", "the van driver",
        "the postwoman", "the parcel service", "the delivery man", "the cyclist with the parcels",
        "the haulier", "the mail carrier", "the depot crew",
    ),
    "distillery": (
        "the distillery", "the maker", "the bottling hall", "the still house", "the blender",
        "the cask yard", "the master distiller", "the bottling line", "the cooper",
        "the malt house", "the cellar crew", "the producer",
    ),
    "customer": (
        "my husband", "my own assistant", "my flatmate", "my daughter", "my lodger", "our cook",
        "my nephew", "my wife", "my father", "our cleaner", "my son", "my secretary",
    ),
}  # fmt: skip

MISHAPS = (
    "left the crate in the rain", "mixed up the two orders", "dropped the box",
    "lost the receipt", "misread the address", "put the wrong date on the form",
    "cracked the bottle", "mislaid the paperwork", "swapped the labels", "overlooked the note",
    "stored the case in the sun", "ticked the wrong box", "copied the number badly",
    "stacked the boxes upside down", "switched the two parcels", "opened the wrong case",
    "damaged the seal", "ignored the warning sticker", "counted the bottles wrongly",
    "scratched the decanter", "crushed the gift wrap", "sent the thing to the wrong street",
    "spilled half of it", "muddled the invoice", "bent the lid", "soaked the cardboard",
    "messed up the engraving", "confused the two flavours", "tipped the pallet over",
    "lost the spare key",
)  # fmt: skip

# What a customer asks for, and how a bottle's card says it: (wish, description) phrases
# for the presence and for the absence of a trait.
TRAITS = {
    "smoke": (
        (("smoky", "peaty", "full of smoke", "with a taste of bonfire", "rich in peat"),
         ("peat smoke from start to finish", "a bonfire in the glass", "heavily smoked malt",
          "ash and embers", "smoky to the last drop", "thick with peat")),
        (("without smoke", "not at all peaty", "untouched by peat", "without any bonfire taste",
          "free of smoke"),
         ("no trace of peat", "never near smoke", "clean, unpeated malt",
          "not a hint of ash", "made without any smoke", "smoke-free")),
    ),
    "sweet": (
        (("sweet", "sugary", "honeyed", "like dessert", "full of sugar"),
         ("sweet as syrup", "honey and toffee", "plenty of sugar", "a dessert in a bottle",
          "rich in caramel", "sweetened generously")),
        (("dry", "not sweet", "without sugar", "anything but sweet", "free of sugar"),
         ("bone dry", "no sugar added", "nothing sweet about it", "dry to the finish",
          "without a grain of sugar", "far from sweet")),
    ),
    "strength": (
        (("strong", "high in alcohol", "one that packs a punch", "powerful", "fiery"),
         ("bottled at full strength", "a fierce 58 per cent", "very high proof",
          "hits hard", "not for the faint-hearted", "strong stuff")),
        (("weak", "low in alcohol", "not too strong", "mild", "easy on the head"),
         ("only 18 per cent", "gentle and low in alcohol", "light on the head",
          "far from strong", "a mild one", "hardly any alcohol")),
    ),
    "price": (
        (("cheap", "not too dear", "within a small budget", "low in price", "affordable"),
         ("a bargain", "under ten pounds", "our cheapest", "kind to the purse",
          "costs next to nothing", "half price this week")),
        (("expensive", "dear", "costly", "a luxury", "beyond a small budget"),
         ("priced for collectors", "over two hundred pounds", "far from cheap",
          "the dearest on the shelf", "costs a small fortune", "a serious investment")),
    ),
    "age": (
        (("old", "long matured", "aged for decades", "matured in oak", "well aged"),
         ("thirty years in oak", "a grandfather of a spirit", "matured for decades",
          "laid down long ago", "our oldest cask", "slowly aged")),
        (("young", "fresh from the still", "not aged", "without years in wood", "newly made"),
         ("bottled last month", "no years in wood", "straight from the still",
          "our youngest", "not matured at all", "new make spirit")),
    ),
    "size": (
        (("sold in large bottles", "big enough for a party", "a magnum", "generous in size",
          "large"),
         ("comes in a magnum", "three litres", "enough for thirty guests", "a giant bottle",
          "the biggest size we sell", "serves a whole party")),
        (("sold in small bottles", "just enough for one", "a miniature", "tiny",
          "small"),
         ("comes as a miniature", "five centilitres", "one glass and it is gone",
          "a tiny bottle", "fits in a pocket", "the smallest size we sell")),
    ),
}  # fmt: skip
BOTTLES = (
    "Harrow Nine", "Old Ferry", "Lantern Hill", "Kestrel", "Saint Odd", "Blue Heron",
    "Miller's Rest", "Tidewater", "Copper Fox", "North Quay", "Bramble Lane", "The Widow",
    "Long Acre", "Captain's Share", "Stone Bridge", "Wren", "Fallow", "Ember Lodge", "Slate",
    "Moss and Rye", "Third Bell", "Pilot", "Gull Rock", "Hollow Oak", "Seven Gates",
)  # fmt: skip

# How a reply begins that agrees, that disagrees, and that speaks of something else.
AGREED = (
    "Quite so", "I saw it too", "My words exactly", "I can only confirm that", "I second that",
    "There is no denying it", "You will hear no objection from me", "Same here",
    "I could not have put it better", "Hard to argue with that", "That is how I remember it",
    "Nobody could doubt that",
)  # fmt: skip
DENIED = (
    "I beg to differ", "You must be joking", "That is not how I remember it", "Nonsense",
    "I doubt that very much", "You are mistaken", "I could not disagree more", "Hardly",
    "Quite the opposite", "I have to object", "Nothing of the kind", "I saw something else",
)  # fmt: skip
TURNED_AWAY = (
    "On another matter", "By the way", "That reminds me", "While I have you", "Before I forget",
    "To change the subject", "Apropos of nothing", "Leaving that aside", "What I meant to say",
    "A different thing", "Meanwhile", "Speaking of something else",
)  # fmt: skip
