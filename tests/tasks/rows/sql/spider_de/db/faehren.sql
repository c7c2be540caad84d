CREATE TABLE faehre (id INTEGER PRIMARY KEY, name TEXT, plaetze INTEGER);
CREATE TABLE fahrt (faehre_id INTEGER REFERENCES faehre(id), hafen TEXT, preis REAL);
INSERT INTO faehre VALUES (1, 'Ida', 80), (2, 'Max', 120), (3, 'Lu', 40), (4, 'Otto', 200);
INSERT INTO fahrt VALUES (1, 'Brest', 9.5), (1, 'Cork', 30.0), (2, 'Brest', 11.0), (3, 'Kiel', 4.0), (4, 'Cork', 28.5), (4, 'Kiel', 6.0);
