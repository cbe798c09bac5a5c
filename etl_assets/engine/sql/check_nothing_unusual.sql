-- Nothing is unusual: sources share keys, and the figures of this publication are like those of the last ones.
SELECT kind, subject, finding, figures FROM publication_notices WHERE is_warning
