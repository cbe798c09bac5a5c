"""The word lists of the sample: names of people, companies, trades and sales owners. Changing one changes the bytes."""

import re
import unicodedata


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


FIRST_NAMES = _names("""
    Aisha, Alan, Amara, Ana, Anton, Aylin, Ben, Carla, Carlos, Chloe, Daniel, David, Diego, Elena, Elif, Emma,
    Erik, Fatima, Felix, Grace, Hana, Hugo, Ines, Ivan, Jack, James, Jana, Jin, Jonas, Julia, Karim, Katja,
    Kofi, Laura, Leo, Liam, Lina, Lucas, Maria, Marta, Maya, Mei, Mila, Nadia, Nina, Noah, Olga, Omar, Oscar,
    Paula, Priya, Rafael, Ravi, Rosa, Sara, Sofia, Tariq, Tom, Vera, Yuki
""")
LAST_NAMES = _names("""
    Abbott, Adeyemi, Ahmed, Almeida, Andersen, Baker, Bauer, Bianchi, Brown, Campbell, Chen, Costa, Cruz,
    Diallo, Dubois, Evans, Ferrari, Fischer, Fraser, Garcia, Gupta, Haddad, Hansen, Hughes, Ito, Jansen,
    Johnson, Kaya, Keller, Kim, Kowalski, Larsen, Lee, Lopez, Martin, Mensah, Meyer, Moore, Moreau, Murphy,
    Nakamura, Nguyen, Novak, Okafor, Olsen, Patel, Peters, Popov, Quinn, Reyes, Rossi, Sato, Schmidt, Silva,
    Singh, Smith, Tanaka, Torres, Walker, Weber, Wilson, Wright, Young, Zhang
""")
COMPANY_NAMES = _names("""
    Aldgate, Alpine, Amber, Apex, Arbor, Ashford, Aurora, Beacon, Birch, Blue Ridge, Bramble, Brightwater,
    Cedar, Cobalt, Copperfield, Crestline, Eastgate, Elmwood, Ember, Evergreen, Fairview, Falcon, Fjord,
    Foxglove, Granite, Harbor, Hawthorn, Highland, Horizon, Indigo, Ironwood, Juniper, Keystone, Kingfisher,
    Lakeside, Lantern, Linden, Lumen, Maple, Meridian, Müller & Voß, Northfield, Oakhurst, Orchard, Pinnacle,
    Polaris, Quarry, Redwood, Riverbend, Saffron, São Bento, Sierra, Silverline, Skåne, Sterling, Summit,
    Tidewater, Tōwa 東和, Umbra, Vertex, Westbrook, Willow, Zephyr
""")
COMPANY_TRADES = {
    "Software": ("Software", "Systems", "Labs", "Cloud"),
    "Manufacturing": ("Industries", "Works", "Tooling", "Components"),
    "Healthcare": ("Health", "Clinics", "Care", "Medical"),
    "Financial Services": ("Capital", "Finance", "Partners", "Insurance"),
    "Retail": ("Stores", "Trading", "Goods", "Market"),
    "Logistics": ("Logistics", "Freight", "Shipping", "Transport"),
    "Education": ("Learning", "Academy", "Schools", "Press"),
    "Media": ("Media", "Studios", "Publishing", "Games"),
    "Energy": ("Energy", "Power", "Solar", "Grid"),
    "Hospitality": ("Hotels", "Resorts", "Catering", "Travel"),
}
COMPANY_FORMS = (*("",) * 7, " Inc", " LLC", " Ltd", " GmbH", " Group", ", Inc.", " AG", " & Sons", " S.A.")
SALES_OWNERS = (
    *("Alice Morgan", "Bob Tanner", "Carmen Ruiz", "Dmitri Volkov", "Esther Boateng", "Farid Nasser", "Greta Holm"),
    *("Henry Walsh", "Isabel Duarte", "Jamal Price", "Kirsten Bach", "Liang Wei", "Mona Sayed", "Niamh O'Connor"),
    *("Owen Pritchard", "Zoë Lindqvist"),
)


def company_domains() -> list[str]:
    """The domain of each company, in the order of `COMPANY_NAMES`.

    All end in .example, which no one can own (RFC 2606): mail to a sample address never reaches a stranger.
    """
    plain = (unicodedata.normalize("NFKD", name.replace("ß", "ss")) for name in COMPANY_NAMES)
    return [re.sub(r"[^a-z]", "", name.lower()) + ".example" for name in plain]
