-- What a subscription brings in a month.
CREATE MACRO monthly_amount(amount, charged_each) AS
    CASE charged_each
        WHEN 'month' THEN amount
        -- In whole cents, half a cent upwards: `/` would make a floating point number of a decimal.
        WHEN 'year' THEN ((((amount * 100)::BIGINT + 6) // 12) / 100)::DECIMAL(12, 2)
    END
