-- The exact tables live in a database of their own.
CREATE DATABASE IF NOT EXISTS rollcall
