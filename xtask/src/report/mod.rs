//! What reports are made of: paired differences with their intervals, tables of text, one page without anything beside
//! it.

mod bootstrap;
mod html;
mod paired;
mod table;

pub(crate) use self::{
    bootstrap::{interval_of_mean, interval_of_median},
    html::page,
    paired::{Difference, Scores, difference, document_bits, mean, standard_deviation},
    table::{NONE, Table, signed, thousands},
};
