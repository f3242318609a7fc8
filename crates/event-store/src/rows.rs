//! Rows for a table of an inline projection, gathered column by column.

/// Declares a table's new rows, and how they become the parameters of a service's append function: one array for each column, the number of
/// the row's command first, then the fields in their order.
///
/// A macro and not a type, because each column is a vector of its own type, and the names of the fields are what keeps fifteen columns
/// readable where a row is made.
///
/// It declares the row, visible in the crate, and the table, visible in the module: `Default`, `push(command, row)`, and `columns()`.
///
/// ```
/// use idempo_event_store::table_rows;
///
/// table_rows! {
///     /// Rows of `wallet.wallets`.
///     Wallets of
///     /// An opened wallet.
///     WalletRow {
///         player: u32,
///         name: String,
///     }
/// }
///
/// let mut wallets = Wallets::default();
/// wallets.push(1, WalletRow { player: 7, name: "seven".to_owned() });
/// assert_eq!(wallets.columns().len(), 3);
/// ```
#[macro_export]
macro_rules! table_rows {
    ($(#[$doc:meta])* $table:ident of $(#[$row_doc:meta])* $row:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)+ }) => {
        $(#[$row_doc])*
        #[derive(Debug, Clone)]
        pub(crate) struct $row {
            $($(#[$field_doc])* pub(crate) $field: $type,)+
        }

        $(#[$doc])*
        #[derive(Debug, Default)]
        struct $table {
            command: Vec<i32>,
            $($field: Vec<$type>,)+
        }

        impl $table {
            fn push(&mut self, command: i32, row: $row) {
                self.command.push(command);
                $(self.$field.push(row.$field);)+
            }

            fn columns(self) -> Vec<$crate::Parameter> {
                vec![Box::new(self.command), $(Box::new(self.$field),)+]
            }
        }
    };
}

#[cfg(test)]
mod tests {
    table_rows! {
        /// Lamps.
        Lamps of
        /// A lamp.
        LampRow {
            /// How bright.
            lumens: i64,
            place: Option<String>,
        }
    }

    #[test]
    fn rows_become_one_array_for_each_column_with_the_command_first() {
        let mut lamps = Lamps::default();
        lamps.push(1, LampRow { lumens: 400, place: None });
        lamps.push(3, LampRow { lumens: 800, place: Some("hall".to_owned()) });
        let columns: Vec<String> = lamps.columns().iter().map(|column| format!("{column:?}")).collect();
        assert_eq!(columns, ["[1, 3]", "[400, 800]", r#"[None, Some("hall")]"#]);
    }
}
