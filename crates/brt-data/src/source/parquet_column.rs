//! One column of a parquet row group, read value by value.

use parquet::{
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::{BoolType, ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type},
    errors::{ParquetError, Result},
    schema::types::ColumnDescriptor,
};

use super::columns::Value;

/// The values of a column.
pub(super) struct Column {
    reader: ColumnReader,
    max_level: i16, // below it a value is null
}

impl Column {
    /// Returns the values that `reader` gives.
    pub(super) fn new(reader: ColumnReader, descriptor: &ColumnDescriptor) -> Self {
        Self { reader, max_level: descriptor.max_def_level() }
    }

    /// Returns the next value.
    pub(super) fn next_value(&mut self) -> Result<Value> {
        let level = self.max_level;
        match &mut self.reader {
            ColumnReader::ByteArrayColumnReader(reader) => {
                next::<ByteArrayType>(reader, level, |value| Value::Text(value.data().to_vec()))
            }
            ColumnReader::Int32ColumnReader(reader) => next::<Int32Type>(reader, level, scalar),
            ColumnReader::Int64ColumnReader(reader) => next::<Int64Type>(reader, level, scalar),
            ColumnReader::BoolColumnReader(reader) => next::<BoolType>(reader, level, scalar),
            ColumnReader::FloatColumnReader(reader) => next::<FloatType>(reader, level, scalar),
            ColumnReader::DoubleColumnReader(reader) => next::<DoubleType>(reader, level, scalar),
            ColumnReader::Int96ColumnReader(_) | ColumnReader::FixedLenByteArrayColumnReader(_) => {
                Ok(Value::Other("bytes of a fixed length"))
            }
        }
    }
}

/// Returns a value as it is written.
fn scalar(value: impl ToString) -> Value {
    Value::Scalar(value.to_string())
}

/// Returns the next value of a typed column.
fn next<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    max_level: i16,
    value: impl Fn(T::T) -> Value,
) -> Result<Value> {
    let (mut levels, mut values) = (Vec::with_capacity(1), Vec::with_capacity(1));
    let levels_of_nulls = (max_level > 0).then_some(&mut levels);
    let (num_rows, num_values, _) = reader.read_records(1, levels_of_nulls, None, &mut values)?;
    match (num_rows, num_values, values.pop()) {
        (1, 1, Some(found)) => Ok(value(found)),
        (1, 0, _) => Ok(Value::Null),
        _ => Err(ParquetError::EOF("a column has fewer values than the file has rows".to_owned())),
    }
}
